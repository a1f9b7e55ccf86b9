"""Which weights are meant: published ones, or a file."""

from pathlib import Path

from torchvision import models
from torchvision.models import WeightsEnum

from precomp_sdk import OptionError, nearest

__all__ = ["find_file", "find_weights"]


def find_weights(architecture: str, weights: str | Path | WeightsEnum) -> WeightsEnum | Path:
    """Return which published weights or which file is meant.

    Args:
        architecture: a known network.
        weights: ``"DEFAULT"``, a member's name such as ``"IMAGENET1K_V1"`` (also behind its enum's name), the member
            itself, or a path.

    Raises:
        OptionError: it is neither a member of the network's weights enum nor looks like a path.
    """
    enum = models.get_model_weights(architecture)
    text = str(weights)
    member = text.removeprefix(f"{enum.__name__}.")
    if member in enum.__members__:
        found: WeightsEnum = enum[member]
        return found
    path = Path(text)
    if _is_file(path):
        return path
    raise OptionError(
        where=f"option 'weights' of {architecture!r}",
        expected="the name of published weights, or a path to a .pth, .pt or .safetensors file",
        got=repr(text),
        remedy=nearest(member, enum.__members__),
    )


def find_file(weights: str | Path | WeightsEnum) -> Path:
    """Return the path that is meant, for a network of which no weights are published.

    Raises:
        OptionError: it does not look like a path.
    """
    path = Path(str(weights))
    if not _is_file(path):
        raise OptionError(
            where="option 'weights'",
            expected="a path to a .pth, .pt or .safetensors file",
            got=repr(str(weights)),
            remedy="No weights are published of a network on a backbone of your choice; see backbone_weights.",
        )
    return path


def _is_file(path: Path) -> bool:
    return path.suffix in (".pth", ".pt", ".safetensors") or path.is_file()
