"""The only reader and writer of image files, for data sets and senders alike.

**What is read.** The formats of `FORMATS`, and no other: a file is told by its content, never by its name, and no
format that starts an outside program is among them. HEIC needs pillow-heif and JPEG XL pillow-jxl-plugin. Of an
animation or a file of several pages the first is taken.

**What becomes of it**, in this order, always (3, H, W) uint8 in sRGB:

1. Samples of more than 8 bits are scaled to 8 so that black stays black and the white level becomes white. The white
   level is 65535 for 16 bits, unless `ReadSettings.white_level` says otherwise. A file of 16 bits whose samples all lie
   in the darkest quarter most likely holds fewer bits (10, 12 or 14): it is refused until the white level is given.
2. An embedded ICC profile is converted to sRGB (relative colorimetric, black point compensation). One that is sRGB
   within two levels leaves the samples as they are; a damaged one, or one for another kind of samples, is ignored, as
   browsers do. Without a profile gray and RGB count as sRGB and CMYK is converted by Pillow's plain formula. Other
   colour tags (PNG's gAMA and cHRM, nclx) are not read.
3. Transparent pixels lie on white.
4. The orientation of the EXIF (or XMP) data is applied.

**What is dropped.** All metadata: EXIF with place and camera, comments, thumbnails, the profile. What is written or
sent holds pixels, upright and in sRGB, and nothing else.

**The limit.** An image of more than `ReadSettings.max_pixels` is refused before it is decoded. There is no other limit:
Pillow's own gives way to it.
"""

from precomp_sdk.image_io._files import FORMATS, MAX_PIXELS, ReadSettings, is_image_name, reason_not_read
from precomp_sdk.image_io._orientation import turn_upright
from precomp_sdk.image_io._reading import DecodedImage, ImageSource, as_image, decode_image, decode_labels, read_image
from precomp_sdk.image_io._writing import encode_png, write_image

__all__ = [
    "FORMATS",
    "MAX_PIXELS",
    "DecodedImage",
    "ImageSource",
    "ReadSettings",
    "as_image",
    "decode_image",
    "decode_labels",
    "encode_png",
    "is_image_name",
    "read_image",
    "reason_not_read",
    "turn_upright",
    "write_image",
]
