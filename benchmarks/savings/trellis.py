"""MozJPEG with trellis quantization, as libvips' published builds have it: a row among the encoders.

It needs ``pip install pyvips pyvips-binary``.
"""

from collections.abc import Mapping

import numpy as np
import pyvips
import torch
from torch import Tensor

from precomp_sdk import Codec, QualityScale, decode_jpeg

__all__ = ["TrellisJPEG"]


class TrellisJPEG(Codec):
    """Annex K's tables, coefficients chosen by rate and distortion, Huffman tables optimized, 4:2:0, baseline."""

    name = "jpeg-trellis"
    source = "ITU-T T.81; MozJPEG through libvips"
    quality_scale = QualityScale("quality", 1, 100, higher_is_better=True, ladder=(5, 12, 34, 50), integer=True)

    @property
    def options(self) -> Mapping[str, object]:
        return {}

    @property
    def version(self) -> str:
        return f"libvips {pyvips.version(0)}.{pyvips.version(1)}"

    def _encode(self, image: Tensor, quality: float) -> bytes:
        samples = np.ascontiguousarray(image.permute(1, 2, 0).numpy())
        found: bytes = pyvips.Image.new_from_array(samples).jpegsave_buffer(
            Q=int(quality), optimize_coding=True, trellis_quant=True, quant_table=0, subsample_mode="on", strip=True
        )
        return found

    def _decode(self, payload: bytes) -> Tensor:
        return torch.from_numpy(decode_jpeg(payload, where="jpeg-trellis")).permute(2, 0, 1).contiguous()
