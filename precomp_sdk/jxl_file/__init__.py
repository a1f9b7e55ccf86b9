"""JPEG XL files: how large one says it is, and a decoder that ends.

libjxl has no bound: a frame of 12 kB may hold thousands of layers, and its modular mode walks a tree for each sample.
Nothing in a header tells, so the file is decoded in a helper process that may take so much time and memory, and no
more. Helpers stay for the next file, one for each thread that decodes at the same time.
"""

from precomp_sdk.jxl_file._decoding import FIXED_S, PER_MEGAPIXEL_S, decode_jxl
from precomp_sdk.jxl_file._header import is_jxl, jxl_size

__all__ = ["FIXED_S", "PER_MEGAPIXEL_S", "decode_jxl", "is_jxl", "jxl_size"]
