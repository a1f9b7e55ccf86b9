"""Sender and receiver as two ONNX files: 8 bits in and out, quality on the codec's own scale, any size.

::

    sender.onnx     image (H, W, 3) uint8, quality ─▶ network ─▶ downscale ─▶ 8 bits ─▶ sent (H', W', 3) uint8
    receiver.onnx   decoded (H', W', 3) uint8, size (2,) ─▶ upscale ─▶ 8 bits ─▶ normalize ─▶ input (1, 3, H, W) float

Between them stands the codec, any of its libraries. What they compute is `Channel`'s, within one level on one sample in
10,000: convolutions sum in another order there.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from precomp_sdk.atomic_io import replacing
from precomp_sdk.deploy.export import OPSET, export_onnx, need_onnx
from precomp_sdk.deploy.int8 import quantized
from precomp_sdk.errors import OptionError

if TYPE_CHECKING:
    from precomp_sdk.deploy.compressor import Compressor

__all__ = ["RECEIVER_FILE", "SENDER_FILE", "export_onnx_pair"]

SENDER_FILE = "sender.onnx"  #: what the sender runs before the codec's encoder
RECEIVER_FILE = "receiver.onnx"  #: what the receiver runs after the codec's decoder

_LEVELS = 255.0
# a of bicubic interpolation (Keys, IEEE Trans. ASSP 29(6), 1981), as PyTorch has it without antialiasing and with it
_CUBIC, _CUBIC_ANTIALIASED = -0.75, -0.5


def export_onnx_pair(
    compressor: "Compressor",
    folder: Path | str,
    *,
    mean: Sequence[float] = (0, 0, 0),
    std: Sequence[float] = (1, 1, 1),
    int8: Sequence[Tensor] | None = None,
) -> tuple[Path, Path]:
    """Write ``sender.onnx`` and ``receiver.onnx``, so that neither side needs Python.

    Shapes and units:
        sender: ``image`` (height, width, 3) uint8, ``quality`` () float32 on the codec's own scale between the ends of
        the ladder; gives ``sent`` (height', width', 3) uint8 for the codec.
        receiver: ``decoded`` (height', width', 3) uint8, ``size`` (2,) int64, the source's height and width; gives
        ``input`` (1, 3, height, width) float32, ``(x - mean) / std`` of samples in [0, 1].

    Args:
        compressor: the sender; stays as it is.
        folder: made where it does not exist.
        mean: of the receiver's network, per channel.
        std: likewise.
        int8: images (3, H, W) uint8 to calibrate on: the sender's convolutions then work in 8 bits, no longer within
            one level of Python's; docs/performance.md says what that saves and costs. None: float.

    Returns:
        The two paths.

    Raises:
        MissingDependencyError: the packages of the extra ``onnx`` are not installed.
        ExportError: an operation of the network has no counterpart in ONNX.
        OptionError: mean or deviation are not three numbers, or a deviation is 0; no image to calibrate on.
    """
    need_onnx("export_onnx_pair")
    if len(mean) != 3 or len(std) != 3 or not all(std):
        raise OptionError(
            where="export_onnx_pair",
            expected="mean and std of three channels, no deviation of 0",
            got=f"{tuple(mean)} and {tuple(std)}",
            remedy="Give those of the receiver's network.",
        )
    import onnx

    folder = Path(folder)
    sender = _sender(compressor)
    if int8 is not None:
        sender = quantized(sender, int8, compressor.ladder)
    made = {SENDER_FILE: sender, RECEIVER_FILE: _receiver(mean, std)}
    for name, model in made.items():
        onnx.checker.check_model(model)
        told = {item.key: item.value for item in model.metadata_props}
        onnx.helper.set_model_props(model, told | {key: str(value) for key, value in compressor.facts.items()})
        with replacing(folder / name) as temporary:
            temporary.write_bytes(model.SerializeToString())
    return folder / SENDER_FILE, folder / RECEIVER_FILE


def _sender(compressor: "Compressor") -> Any:
    """Return the sender's model: the network's own graph between conversions."""
    import onnx
    from onnx import TensorProto, helper

    with TemporaryDirectory() as place:
        path = Path(place) / "network.onnx"
        export_onnx(compressor.preprocessor, path)
        network = onnx.load(path)
    scale, graph = compressor.codec.quality_scale, _Graph()
    span = 1.0 / (scale.maximum - scale.minimum)
    samples = graph.node("Cast", "image", to=TensorProto.FLOAT)
    samples = graph.node("Div", samples, graph.constant(np.float32(_LEVELS)))
    planes = graph.node("Transpose", samples, perm=[2, 0, 1])
    graph.node("Unsqueeze", planes, graph.constant(np.array([0])), output="images")
    above = graph.node("Sub", "quality", graph.constant(np.float32(scale.minimum)))
    position = graph.node("Mul", above, graph.constant(np.float32(span)))
    strength = graph.node("Sub", graph.constant(np.float32(1)), position) if scale.higher_is_better else position
    strength = graph.node("Clip", strength, graph.constant(np.float32(0)), graph.constant(np.float32(1)))
    graph.node("Reshape", strength, graph.constant(np.array([1])), output="strengths")
    nodes = list(graph.nodes)
    graph.nodes.clear()
    processed = "processed"
    factors = _factors(compressor)
    if min(factors.values()) < 1.0:
        processed = _downscaled(graph, processed, factors)
    levels = graph.node("Round", graph.node("Mul", processed, graph.constant(np.float32(_LEVELS))))
    levels = graph.node("Clip", levels, graph.constant(np.float32(0)), graph.constant(np.float32(_LEVELS)))
    whole = graph.node("Cast", levels, to=TensorProto.UINT8)
    graph.node("Transpose", graph.node("Squeeze", whole, graph.constant(np.array([0]))), perm=[1, 2, 0], output="sent")
    inputs = [
        helper.make_tensor_value_info("image", TensorProto.UINT8, ["height", "width", 3]),
        helper.make_tensor_value_info("quality", TensorProto.FLOAT, []),
    ]
    sent = helper.make_tensor_value_info("sent", TensorProto.UINT8, ["sent_height", "sent_width", 3])
    inner = network.graph
    body = helper.make_graph(
        [*nodes, *inner.node, *graph.nodes],
        "sender",
        inputs,
        [sent],
        initializer=[*inner.initializer, *graph.constants],
    )
    domains = {item.domain: item.version for item in network.opset_import} | {"": OPSET}
    return helper.make_model(
        body,
        opset_imports=[helper.make_opsetid(domain, version) for domain, version in domains.items()],
        functions=list(network.functions),
        ir_version=network.ir_version,
    )


def _factors(compressor: "Compressor") -> Mapping[float, float]:
    """Return the resolution by quality: of every whole one on the ladder's range, or of the ladder's own."""
    scale, ladder = compressor.codec.quality_scale, compressor.ladder
    low, high = min(ladder), max(ladder)
    qualities = [float(value) for value in range(int(low), int(high) + 1)] if scale.integer else sorted(ladder)
    return {quality: compressor.preprocessor.resolution(scale.strength(quality)) for quality in qualities}


def _downscaled(graph: "_Graph", processed: str, factors: Mapping[float, float]) -> str:
    """Add the downscaling by the factor of the nearest quality: bicubic, antialiased, clipped."""
    from onnx import TensorProto

    qualities = graph.constant(np.array(list(factors), np.float32))
    distances = graph.node("Abs", graph.node("Sub", qualities, "quality"))
    nearest = graph.node("ArgMin", distances, axis=0, keepdims=0)
    factor = graph.node("Gather", graph.constant(np.array(list(factors.values()), np.float64)), nearest)
    shape = graph.node("Cast", graph.node("Shape", processed, start=2), to=TensorProto.DOUBLE)
    size = graph.node("Round", graph.node("Mul", shape, factor))  # half to even, as Python's
    size = graph.node("Cast", graph.node("Max", size, graph.constant(np.float64(1))), to=TensorProto.INT64)
    sizes = graph.node("Concat", graph.constant(np.array([1, 3])), size, axis=0)
    small = graph.node(
        "Resize", processed, "", "", sizes, mode="cubic", antialias=1, cubic_coeff_a=_CUBIC_ANTIALIASED,
        exclude_outside=1, coordinate_transformation_mode="half_pixel",
    )  # fmt: skip
    return graph.node("Clip", small, graph.constant(np.float32(0)), graph.constant(np.float32(1)))


def _receiver(mean: Sequence[float], std: Sequence[float]) -> Any:
    """Return the receiver's model."""
    from onnx import TensorProto, helper

    graph = _Graph()
    samples = graph.node(
        "Div", graph.node("Cast", "decoded", to=TensorProto.FLOAT), graph.constant(np.float32(_LEVELS))
    )
    planes = graph.node("Unsqueeze", graph.node("Transpose", samples, perm=[2, 0, 1]), graph.constant(np.array([0])))
    sizes = graph.node("Concat", graph.constant(np.array([1, 3])), "size", axis=0)
    large = graph.node(
        "Resize", planes, "", "", sizes, mode="cubic", cubic_coeff_a=_CUBIC,
        coordinate_transformation_mode="half_pixel",
    )  # fmt: skip
    large = graph.node("Clip", large, graph.constant(np.float32(0)), graph.constant(np.float32(1)))
    levels = graph.node("Round", graph.node("Mul", large, graph.constant(np.float32(_LEVELS))))
    values = graph.node("Div", levels, graph.constant(np.float32(_LEVELS)))
    centre, spread = (graph.constant(np.array(item, np.float32).reshape(1, 3, 1, 1)) for item in (mean, std))
    graph.node("Div", graph.node("Sub", values, centre), spread, output="input")
    body = helper.make_graph(
        graph.nodes,
        "receiver",
        [
            helper.make_tensor_value_info("decoded", TensorProto.UINT8, ["sent_height", "sent_width", 3]),
            helper.make_tensor_value_info("size", TensorProto.INT64, [2]),
        ],
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, "height", "width"])],
        initializer=graph.constants,
    )
    return helper.make_model(body, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)


class _Graph:
    """Nodes and constants with names of their own."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self._count = 0

    def node(self, kind: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        """Add a node; return the name of its result."""
        from onnx import helper

        name = output or self._name()
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name=name, **attributes))
        return name

    def constant(self, value: Any) -> str:
        """Add a constant; return its name."""
        from onnx import numpy_helper

        name = self._name()
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def _name(self) -> str:
        self._count += 1
        return f"precomp_{self._count}"
