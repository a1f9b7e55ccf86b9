"""Write the guide that ships with `qa-smooth`: SqueezeNet 1.1's first layers, from torchvision's weights, 16 bits.

python benchmarks/savings/make_guide.py DATA/weights/squeezenet1_1_torchvision_fp16.pth
"""

import sys

import torch
from safetensors.torch import save_file

from precomp_qacnn._guide import _SHAPES, GUIDE_FILE

stored = torch.load(sys.argv[1], weights_only=True)
parts = {
    f"{layer}.{part}": stored[f"features.{layer}.{part}"].half().contiguous()
    for layer in _SHAPES
    for part in ("weight", "bias")
}
GUIDE_FILE.parent.mkdir(exist_ok=True)
save_file(parts, GUIDE_FILE)
