"""Eight-bit convolutions for a sender's ONNX graph, by ONNX Runtime's own quantizer."""

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from torch import Tensor

from precomp_sdk.deploy.export import need_onnx
from precomp_sdk.errors import ExportError, OptionError
from precomp_sdk.images import check_image

__all__ = ["quantized"]

_PIXELS = 3  # channels: what makes pixels of pixels stays float, as 8 bits in between would be seen


def quantized(sender: Any, images: Sequence[Tensor], qualities: Sequence[float]) -> Any:
    """Return a sender's model with its convolutions in 8 bits; everything that touches the image itself stays float.

    Ranges are the least and the largest values that calibration meets; weights have one scale a channel.

    Shapes and units:
        images: (3, H, W) uint8 each, such as the sender will meet; a dozen suffice.

    Args:
        sender: the model of ``sender.onnx``; stays as it is.
        images: to calibrate on.
        qualities: at which they are sent, by turns: the ends of the ladder and some between.

    Raises:
        MissingDependencyError: the packages of the extra ``onnx`` are not installed.
        OptionError: there is no image to calibrate on.
        ImageError: one is not 8 bits, (3, H, W).
        ExportError: the network has no convolution that could be quantized.

    Source: Jacob et al., arXiv 1712.05877; ``onnxruntime.quantization.quantize_static``.
    """
    need_onnx("int8", runtime=True)
    if not images:
        raise OptionError(
            where="int8",
            expected="images to calibrate on",
            got="none",
            remedy="Give a dozen images such as the sender will meet.",
        )
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    model = onnx.ModelProto.FromString(sender.SerializeToString())
    _fold_casts(model)
    chosen = _convolutions(model)
    if not chosen:
        raise ExportError(
            where="int8",
            expected="a network with convolutions of more than three channels",
            got="none: all of it works on pixels",
            remedy="Export it without int8.",
        )

    class Reader(CalibrationDataReader):  # type: ignore[misc]  # ONNX Runtime has no types
        def __init__(self) -> None:
            self._inputs = _inputs(images, qualities)

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self._inputs, None)

    with TemporaryDirectory() as place, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its remarks on its own innards are not for users
        source, target = Path(place) / "float.onnx", Path(place) / "int8.onnx"
        onnx.save(model, source)
        quantize_static(
            source,
            target,
            Reader(),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            op_types_to_quantize=["Conv"],
            nodes_to_quantize=chosen,
        )
        return onnx.load(target)


def _fold_casts(model: Any) -> None:
    """Turn weights that are cast to float into float weights, in place, so that the quantizer sees them."""
    from onnx import TensorProto, numpy_helper

    graph = model.graph
    kept = {item.name: item for item in graph.initializer}
    casts = [
        node
        for node in graph.node
        if node.op_type == "Cast" and node.input[0] in kept and node.attribute[0].i == TensorProto.FLOAT
    ]
    for node in casts:
        value = numpy_helper.to_array(kept[node.input[0]]).astype(np.float32)
        graph.initializer.append(numpy_helper.from_array(value, node.output[0]))
        graph.node.remove(node)
    used = {name for node in graph.node for name in node.input}
    for item in [item for item in graph.initializer if item.name not in used]:
        graph.initializer.remove(item)


def _convolutions(model: Any) -> list[str]:
    """Return the names of the convolutions between features."""
    shapes = {item.name: tuple(item.dims) for item in model.graph.initializer}
    return [
        node.name
        for node in model.graph.node
        if node.op_type == "Conv" and node.name and shapes.get(node.input[1], (0,))[0] > _PIXELS
    ]


def _inputs(images: Sequence[Tensor], qualities: Sequence[float]) -> Iterator[dict[str, np.ndarray]]:
    for place, image in enumerate(images):
        pixels = check_image(image, "int8").permute(1, 2, 0).cpu().numpy()
        yield {"image": pixels, "quality": np.array(qualities[place % len(qualities)], np.float32)}
