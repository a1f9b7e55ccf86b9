"""Preprocessor and codec as one thing that turns images into payloads."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from precomp_sdk._trust import refuse_in_weights
from precomp_sdk.channel import Channel
from precomp_sdk.codec import Codec
from precomp_sdk.config import check_options
from precomp_sdk.deploy.export import export_onnx
from precomp_sdk.deploy.resources import check_memory
from precomp_sdk.deploy.targets import CompressedImage, QualityTarget, compress_to_target
from precomp_sdk.errors import CheckpointError, ConfigError, QualityError
from precomp_sdk.events import Event, Notice
from precomp_sdk.image_io import ImageSource, as_image
from precomp_sdk.preprocessor import Preprocessor
from precomp_sdk.registry import Registry
from precomp_sdk.training import SavedModule, as_recorded, load_module, read_module, rebuild, save_module
from precomp_sdk.validation import find_device

__all__ = ["Compressor"]

_LARGE_PX = 2**22  # from this size on memory is looked at before the work: measuring takes as long as a small image


class Compressor:
    """A trained preprocessor in front of the codec it was trained for: what runs at the sender.

    The payload is an ordinary file of the codec; any decoder of the format reads it, `decompress` among them. Several
    threads may call it at a time.

    Shapes and units:
        image: (3, H, W) uint8, sRGB; any H, W >= 1. Never changed in place.
        quality: on the codec's own scale, between the ends of ``ladder``.

    Args:
        codec: the real codec.
        preprocessor: trained; put into evaluation mode.
        ladder: the qualities it was trained for; None takes the codec's own ladder.
        facts: whatever else the file should say, such as the task; plain JSON values.

    Raises:
        QualityError: a quality of the ladder is off the codec's scale.

    Example:
        >>> from precomp_sdk.testing import FakeCodec, FakePreprocessor
        >>> sender = Compressor(FakeCodec(), FakePreprocessor(gain=1.0))
        >>> image = torch.randint(0, 256, (3, 20, 30), dtype=torch.uint8)
        >>> len(sender.compress(image, 30)) < len(sender.codec.encode(image, 30))
        True
    """

    def __init__(
        self,
        codec: Codec,
        preprocessor: Preprocessor,
        *,
        ladder: Sequence[float] | None = None,
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        self.codec = codec
        self.preprocessor = preprocessor.eval().requires_grad_(False)
        self.channel = Channel(
            codec, self.preprocessor
        )  #: the road that its images take, as in training and evaluation
        self.ladder = codec.quality_scale.ladder_of(ladder)
        self._facts = dict(facts or {})

    @property
    def facts(self) -> dict[str, Any]:
        """What the file says beside the weights: codec, its options and version, the ladder, and what was given."""
        return {
            **self._facts,
            "codec": self.codec.name,
            "codec_options": dict(self.codec.coding_options),
            "codec_version": self.codec.version,
            "ladder": list(self.ladder),
        }

    @property
    def digest(self) -> str:
        """A short name for what this sender does: of its weights, options, codec and the codec's version."""
        content = hashlib.sha256(json.dumps(as_recorded(self.facts), sort_keys=True).encode())
        network = self.preprocessor
        content.update(json.dumps([network.name, as_recorded(network.options)], sort_keys=True).encode())
        for name, value in sorted(network.state_dict().items()):
            content.update(name.encode())
            if isinstance(value, Tensor):
                content.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        return content.hexdigest()[:16]

    def preprocess(self, image: ImageSource, quality: float) -> Tensor:
        """Return the image as the codec gets it: uint8 (3, H, W), smaller where the preprocessor asks for it.

        Raises:
            ImageError: it is no image that `as_image` takes.
            QualityError: the quality lies outside the ladder, where the network was never trained.
            ResourceError: the machine has no memory for it.
        """
        image = as_image(image)
        self._check(quality)
        if image.shape[1] * image.shape[2] >= _LARGE_PX:
            check_memory(self.preprocessor, (int(image.shape[1]), int(image.shape[2])))
        with torch.no_grad():
            return self.channel.send([image], [quality])[0]

    def compress(self, image: ImageSource, quality: float) -> bytes:
        """Return the payload of an image: an ordinary file of the codec, upright, in sRGB and without metadata.

        Args:
            image: a path, the bytes of a file, a Pillow image, an array or a tensor, see `as_image`.
            quality: on the codec's own scale.

        Raises:
            ImageError: it is no image that `as_image` takes.
            QualityError: the quality lies outside the ladder.
            CodecError: the codec's library failed.
        """
        return self.codec.encode(self.preprocess(image, quality), quality)

    def compress_many(self, images: Iterable[ImageSource], target: QualityTarget | float) -> Iterator[CompressedImage]:
        """Yield the payloads of many images, in order; for files and folders by several workers see `compress_files`.

        Args:
            images: taken one by one, as `compress` takes them.
            target: a quality for all, or how it is chosen for each.

        Raises:
            PrecompError: as `compress` raises it, for the image at which it stands.
        """
        chosen = target if isinstance(target, QualityTarget) else QualityTarget(quality=target)
        for image in images:
            yield compress_to_target(self, as_image(image), chosen)

    def decompress(self, payload: bytes, size: tuple[int, int] | None = None) -> Tensor:
        """Return what the receiver sees, (3, H, W) uint8.

        Args:
            payload: of `compress`.
            size: height and width of the source, to which an image coded at a lower resolution is upscaled; None
                returns it as it was coded.

        Raises:
            BitstreamError: the payload is not whole and valid.
        """
        decoded = self.codec.decode(payload)
        return decoded if size is None else self.channel.receive([decoded], [size])[0]

    def save(self, path: Path | str) -> None:
        """Write weights, options, codec and ladder as one safetensors file, atomically."""
        network = self.preprocessor
        save_module(Path(path), network, name=network.name, options=network.options, facts=self.facts)

    @classmethod
    def load(
        cls,
        path: Path | str,
        registry: Registry | None = None,
        *,
        codec: Codec | None = None,
        preprocessor: Preprocessor | None = None,
        device: torch.device | str | None = None,
        trust: bool = False,
        observer: Callable[[Event], None] | None = None,
    ) -> Self:
        """Read a file of `save`, or the ``preprocessor.safetensors`` of a training run.

        What is not given is constructed by the name and the options in the file. A file may come from anybody, so it
        may name components and plain options only: one that names a path, a program or a module is refused.

        Args:
            path: of the file.
            registry: of the names in it; None takes the installed plugins.
            codec: the codec to use; it must be the one in the file.
            preprocessor: an object to load the weights into; it must be of the kind in the file.
            device: where the network works; None: where it is.
            trust: accept options that name paths, programs and modules, where you know who made the file.
            observer: receives a notice where the codec's library has another version than in training.

        Raises:
            CheckpointError: the file is damaged, or codec, its options or preprocessor differ from what it says.
            UnknownNameError: no plugin offers a name in it.
        """
        path = Path(path)
        saved = read_module(path)
        name, options, ladder = _codec_of(saved, path)
        if codec is None or preprocessor is None:
            registry = registry or Registry()
        if codec is None:
            assert registry is not None
            codec = _codec(name, options, registry, path, trust)
        if preprocessor is None:
            assert registry is not None
            _refuse_without_parts(saved.name, registry, path)
            preprocessor = _preprocessor(saved, registry, path, trust)
        ours = (codec.name, as_recorded(codec.coding_options))
        if ours != (name, {key: value for key, value in as_recorded(options).items() if key not in codec.limits}):
            raise CheckpointError(
                where=str(path),
                expected=f"the codec it was trained for: {name!r} with options {options}",
                got=f"{codec.name!r} with options {dict(codec.coding_options)}",
                remedy="Construct that codec, or train for this one.",
            )
        load_module(path, preprocessor, name=preprocessor.name)
        trained = saved.facts.get("codec_version", "")
        if observer is not None and trained != codec.version:
            observer(
                Notice("deploy", f"{path} was trained with {trained or 'an unknown version'}; here is {codec.version}")
            )
        place = None if device is None else find_device(device, "Compressor.load")
        made = cls(codec, preprocessor.to(place), ladder=ladder, facts=saved.facts)
        made._facts["codec_version_in_training"] = trained
        return made

    def export_onnx(self, path: Path | str) -> None:
        """Write the preprocessor as ONNX, see `export_onnx`; the file also says codec, ladder, strengths, resolutions.

        Downscaling is not in the graph: it follows the graph, as `precomp_sdk.images.downscale` says.

        Raises:
            MissingDependencyError: the packages of the extra ``onnx`` are not installed.
            ExportError: an operation of the network has no counterpart in ONNX.
        """
        scale = self.codec.quality_scale
        strengths = {f"{quality:g}": scale.strength(quality) for quality in self.ladder}
        resolutions = {quality: self.preprocessor.resolution(strength) for quality, strength in strengths.items()}
        export_onnx(
            self.preprocessor, path, metadata={**self.facts, "strengths": strengths, "resolutions": resolutions}
        )

    def _check(self, quality: float) -> None:
        value = self.codec.quality_scale.check(quality)
        if not min(self.ladder) <= value <= max(self.ladder):
            raise QualityError(
                where=f"Compressor, {self.codec.quality_scale.name}",
                expected=f"a quality it was trained for, from {min(self.ladder):g} to {max(self.ladder):g}",
                got=f"{value:g}",
                remedy="Train with a wider ladder, or use the codec alone there.",
            )


def _refuse_without_parts(name: str, registry: Registry, path: Path) -> None:
    cls = registry.preprocessors.get(name)
    if cls is not None and cls.requires:
        raise CheckpointError(
            where=str(path),
            expected=f"the object, as {name!r} works with its {' and '.join(cls.requires)}, which the file lacks",
            got="a file alone",
            remedy="Give preprocessor=, constructed with them; on the command line give the folder of the run.",
        )


def _codec(name: str, options: Mapping[str, Any], registry: Registry, path: Path, trust: bool) -> Codec:
    """Construct the codec that a file names; what bounds its work is the user's to say, not the file's."""
    cls = registry.codecs.get(name)
    if cls is not None:
        options = {key: value for key, value in options.items() if key not in cls.limits}
        options = _checked(cls, options, f"{path}, codec_options", trust)
    return registry.create("codec", name, **options)


def _preprocessor(saved: SavedModule, registry: Registry, path: Path, trust: bool) -> Preprocessor:
    cls = registry.preprocessors.get(saved.name)
    options = dict(saved.options) if cls is None else _checked(cls, saved.options, f"{path}, options", trust)
    return rebuild(lambda: registry.create("preprocessor", saved.name, **options), saved, path)


def _checked(cls: type, options: Mapping[str, Any], where: str, trust: bool) -> dict[str, Any]:
    """Return a file's options in the types of the signature.

    Raises:
        CheckpointError: one is unknown, of another type, or more than plain.
    """
    if not trust:
        refuse_in_weights(cls, options, where)
    try:
        return check_options(cls, options, where)
    except ConfigError as error:
        raise CheckpointError(
            where=error.where,
            expected=error.expected,
            got=error.got,
            remedy="The file is damaged, or of another version of the component.",
        ) from error


def _codec_of(saved: SavedModule, path: Path) -> tuple[str, dict[str, Any], list[float]]:
    """Return the codec's name, its options and the ladder that a file names."""
    name, options, ladder = (saved.facts.get(key) for key in ("codec", "codec_options", "ladder"))
    numbers = isinstance(ladder, list) and bool(ladder) and all(type(item) in (int, float) for item in ladder)
    wrong = [
        f"{key} = {value!r:.60}" if key in saved.facts else f"no {key}"
        for key, value, right in (
            ("codec", name, isinstance(name, str)),
            ("codec_options", options, isinstance(options, dict)),
            ("ladder", ladder, numbers),
        )
        if not right
    ]
    if wrong:
        raise CheckpointError(
            where=str(path),
            expected="a trained preprocessor with its codec and ladder",
            got=f"a weights file of {saved.name!r} with {', '.join(wrong)}",
            remedy="Give what Compressor.save or a training run wrote.",
        )
    return str(name), dict(options or {}), list(ladder or ())
