"""A preprocessor as ONNX: any height, width and batch, strengths as an input."""

import copy
import json
import warnings
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from precomp_sdk.atomic_io import replacing
from precomp_sdk.errors import ExportError, MissingDependencyError
from precomp_sdk.preprocessor import Preprocessor

__all__ = ["OPSET", "export_onnx", "need_onnx"]

OPSET = 18  #: of the files
_EXAMPLE = (2, 3, 37, 51)  # sizes that no network can take for constants of its own
_NEEDED = ("onnx", "onnxscript")


def export_onnx(preprocessor: Preprocessor, path: Path | str, *, metadata: Mapping[str, Any] | None = None) -> None:
    """Write a preprocessor as one ONNX file, padding and clipping included.

    The graph does not check its inputs: strengths must lie in [0, 1].

    Shapes and units:
        input ``images``: (batch, 3, height, width) float32 in [0, 1], all three free.
        input ``strengths``: (batch,) float32, 0 (mildest compression) .. 1 (strongest), `QualityScale.strength`.
        output ``processed``: as ``images``. Round it to 8 bits for the codec.

    Args:
        preprocessor: stays as it is.
        path: of the file; its folder is made where it does not exist.
        metadata: plain JSON values, written as the model's metadata beside the name, source and options.

    Raises:
        MissingDependencyError: the packages of the extra ``onnx`` are not installed.
        ExportError: an operation of the network has no counterpart in ONNX, or it takes a size for a constant.
    """
    path = Path(path)
    need_onnx("export_onnx")
    program = _trace(_Whole(copy.deepcopy(preprocessor).cpu()).eval().requires_grad_(False), preprocessor.name)
    told = {"name": preprocessor.name, "source": preprocessor.source, "options": dict(preprocessor.options)}
    for key, value in {**told, **(metadata or {})}.items():
        program.model.metadata_props[key] = value if isinstance(value, str) else json.dumps(value)
    with replacing(path) as temporary:
        program.save(temporary)


def need_onnx(where: str, *, runtime: bool = False) -> None:
    """Refuse to begin without the packages of the extra ``onnx``; ONNX Runtime among them where it is to run.

    Raises:
        MissingDependencyError: one is not installed.
    """
    needed = (*_NEEDED, "onnxruntime") if runtime else _NEEDED
    missing = [package for package in needed if find_spec(package) is None]
    if missing:
        raise MissingDependencyError(
            where=where,
            expected=f"the packages {' and '.join(needed)}",
            got=f"no {' and no '.join(missing)}",
            remedy='Install them: pip install "precomp-sdk[onnx]".',
        )


def _trace(module: nn.Module, name: str) -> Any:
    batch, height, width = (torch.export.Dim(axis, min=1) for axis in ("batch", "height", "width"))
    try:
        with warnings.catch_warnings():  # its remarks on its own innards are not for users
            warnings.simplefilter("ignore")
            program: Any = torch.onnx.export(
                module,
                (torch.rand(_EXAMPLE, generator=torch.Generator().manual_seed(0)), torch.tensor([0.25, 0.75])),
                dynamo=True,
                verbose=False,
                opset_version=OPSET,
                input_names=["images", "strengths"],
                output_names=["processed"],
                dynamic_shapes={"images": {0: batch, 2: height, 3: width}, "strengths": {0: batch}},
            )
    except Exception as error:  # torch raises a different type for every reason
        cause = error.__cause__ or error
        raise _refused(name, f"{type(cause).__name__}: {str(cause).strip().partition(chr(10))[0]}") from error
    sizes = [program.model.graph.inputs[0].shape[axis] for axis in (0, 2, 3)]
    if any(isinstance(size, int) for size in sizes):  # torch's last resort takes what it cannot solve for a constant
        raise _refused(name, f"a graph for a batch, height and width of {', '.join(map(str, sizes))} only")
    return program


def _refused(name: str, got: str) -> ExportError:
    return ExportError(
        where=f"export of preprocessor {name!r}",
        expected="operations that ONNX has, for any batch, height and width",
        got=got,
        remedy="In _process, and in what it calls of a task, read sizes as images.shape[0], not len(images), "
        "and branch on no value of a tensor.",
    )


class _Whole(nn.Module):
    """A preprocessor with its padding and clipping, written so that sizes stay symbols."""

    def __init__(self, preprocessor: Preprocessor) -> None:
        super().__init__()
        self.preprocessor = preprocessor

    def forward(self, images: Tensor, strengths: Tensor) -> Tensor:
        multiple = self.preprocessor.multiple
        height, width = images.shape[-2:]
        padded = images
        if multiple > 1:  # repeat the border, as pad_to_multiple does; a padding of symbolic size has no ONNX
            rows, columns = (
                torch.arange((side + multiple - 1) // multiple * multiple).clamp(max=side - 1)
                for side in (height, width)
            )
            padded = images[:, :, rows][:, :, :, columns]
        return self.preprocessor._process(padded, strengths)[..., :height, :width].clamp(0.0, 1.0)
