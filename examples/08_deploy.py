"""Deploy: one file for a sender in Python, ONNX for everything else, and what it costs."""

import tempfile
from importlib.util import find_spec
from pathlib import Path

import torch

from precomp_jpeg import JPEGCodec
from precomp_qacnn import LightQACNN
from precomp_sdk import to_float
from precomp_sdk.deploy import Compressor, measure_cost
from precomp_sdk.testing import natural_image

sender = Compressor(JPEGCodec(), LightQACNN(width=16, depth=1), ladder=(5, 10, 20, 40))  # trained, in earnest
print(measure_cost(sender.preprocessor, height=128, width=128))

with tempfile.TemporaryDirectory() as folder:
    sender.save(Path(folder) / "sender.safetensors")
    loaded = Compressor.load(Path(folder) / "sender.safetensors")  # names come from the installed plugins
    image = natural_image(60, 91)
    payload = loaded.compress(image, 20)
    assert payload == sender.compress(image, 20)
    assert payload.startswith(b"\xff\xd8")  # an ordinary JPEG: the receiver changes nothing

    if all(find_spec(package) for package in ("onnx", "onnxscript", "onnxruntime")):  # pip install "precomp-sdk[onnx]"
        import onnxruntime

        sender.export_onnx(Path(folder) / "network.onnx")
        session = onnxruntime.InferenceSession(Path(folder) / "network.onnx", providers=["CPUExecutionProvider"])
        images = to_float(image)[None]
        strength = sender.codec.quality_scale.strength(20)
        (processed,) = session.run(None, {"images": images.numpy(), "strengths": torch.tensor([strength]).numpy()})
        with torch.no_grad():
            torch.testing.assert_close(torch.from_numpy(processed), sender.preprocessor(images, strength))

print(f"{len(payload)} bytes for {image.shape[-2]} x {image.shape[-1]} pixels")
