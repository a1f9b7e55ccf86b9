"""Preprocessor and codec as one thing that turns images into payloads."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from precomp_sdk.channel import Channel
from precomp_sdk.chooser import ChoosingChannel
from precomp_sdk.codec import Codec
from precomp_sdk.deploy.compressed_image import CompressedImage
from precomp_sdk.deploy.export import export_onnx
from precomp_sdk.deploy.hub import find_on_hub, push
from precomp_sdk.deploy.keep_answer import KeepAnswer
from precomp_sdk.deploy.loading import codec_of, digest_of, make_codec, make_preprocessor, refuse_without_parts
from precomp_sdk.deploy.resources import check_memory
from precomp_sdk.deploy.shipped import ChooserUse, check_same_parts, find_model
from precomp_sdk.deploy.targets import QualityTarget, compress_to_target
from precomp_sdk.described import Assembled
from precomp_sdk.errors import CheckpointError, QualityError
from precomp_sdk.events import Event, Notice
from precomp_sdk.image_io import ImageSource, as_image
from precomp_sdk.preprocessor import Identity, Preprocessor
from precomp_sdk.registry import Registry
from precomp_sdk.task import TaskModel
from precomp_sdk.training import WEIGHTS_FILE, as_recorded, load_module, read_module, save_module
from precomp_sdk.validation import find_device

__all__ = ["Compressor"]

_LARGE_PX = 2**22  # from this size on memory is looked at before the work: measuring takes as long as a small image


class Compressor(Assembled):
    """A trained preprocessor in front of the codec it was trained for: what runs at the sender.

    The payload is an ordinary file of the codec; any decoder of the format reads it, `decompress` among them. Several
    threads may call it at a time.

    With a quality chooser each image is coded at the quality and the resolution that its panel needs, and ``quality``
    names the operating point: as many bits as the codec alone would pay at that quality for what the panel keeps.

    Shapes and units:
        image: (3, H, W) uint8, sRGB; any H, W >= 1. Never changed in place.
        quality: on the codec's own scale, between the ends of ``ladder``.

    Args:
        codec: the real codec.
        preprocessor: trained; put into evaluation mode. `Identity` leaves images alone.
        ladder: the qualities it was trained for; None takes the codec's own ladder, or the chooser's.
        facts: whatever else the file should say, such as the task; plain JSON values.
        chooser: chooses the quality of each image; constructed with these two objects, and fitted.

    Raises:
        QualityError: a quality of the ladder is off the codec's scale.
        OptionError: the chooser is of another codec or preprocessor.

    Example:
        >>> from precomp_sdk.testing import FakeCodec, FakePreprocessor
        >>> sender = Compressor(FakeCodec(), FakePreprocessor(gain=1.0))
        >>> image = torch.randint(0, 256, (3, 20, 30), dtype=torch.uint8)
        >>> len(sender.compress(image, 30)) < len(sender.codec.encode(image, 30))
        True
    """

    _parts = ("codec", "preprocessor")

    def __init__(
        self,
        codec: Codec,
        preprocessor: Preprocessor,
        *,
        ladder: Sequence[float] | None = None,
        facts: Mapping[str, Any] | None = None,
        chooser: ChooserUse | None = None,
    ) -> None:
        self.codec = codec
        self.preprocessor: Preprocessor = preprocessor.eval().requires_grad_(False)
        self.chooser = chooser
        #: the road that its images take at a quality, as in training and evaluation
        self.channel: Channel = Channel(codec, None if isinstance(preprocessor, Identity) else self.preprocessor)
        if chooser is not None:
            check_same_parts(chooser, codec, preprocessor)
            ladder = chooser.chooser.ladder if ladder is None else ladder
        self.ladder: tuple[float, ...] = codec.quality_scale.ladder_of(ladder)
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
            **({} if self.chooser is None else {"chooser": self.chooser.facts()}),
        }

    @property
    def digest(self) -> str:
        """A short name for what this sender does: of its weights, options, codec and the codec's version."""
        network = self.preprocessor
        return digest_of(network, as_recorded(self.facts), network.name, as_recorded(network.options))

    def preprocess(self, image: ImageSource, quality: float) -> Tensor:
        """Return the image as the codec gets it: uint8 (3, H, W), smaller where preprocessor or chooser ask for it.

        Raises:
            ImageError: it is no image that `as_image` takes.
            QualityError: the quality lies outside the ladder, where the network was never trained.
            ResourceError: the machine has no memory for it.
        """
        image = self._checked(image, quality)
        channel = self.channel
        if self.chooser is not None:
            channel = ChoosingChannel(self.chooser.chooser, search=self.chooser.search, encodes=self.chooser.encodes)
        with torch.no_grad():
            return channel.send([image], [quality])[0]

    def compress(self, image: ImageSource, quality: float) -> bytes:
        """Return the payload of an image: an ordinary file of the codec, upright, in sRGB and without metadata.

        Args:
            image: a path, the bytes of a file, a Pillow image, an array or a tensor, see `as_image`.
            quality: on the codec's own scale; with a chooser, the operating point.

        Raises:
            ImageError: it is no image that `as_image` takes.
            QualityError: the quality lies outside the ladder.
            CodecError: the codec's library failed.
        """
        return self.compress_chosen(image, quality).payload

    def compress_chosen(self, image: ImageSource, quality: float) -> CompressedImage:
        """Return what `compress` does, and at which quality and resolution it was coded, and why.

        Raises:
            PrecompError: as `compress` raises it.
        """
        image = self._checked(image, quality)
        if self.chooser is None:
            with torch.no_grad():
                sent = self.channel.send([image], [quality])[0]
            payload, resolution = self.codec.encode(sent, quality), self.channel.resolution(quality)
            return CompressedImage(payload, quality, 1, resolution=resolution)
        use = self.chooser
        found = use.chooser.choose(image, quality, search=use.search, encodes=use.encodes)
        why = f"chosen at the operating point {quality:g} by {', '.join(use.chooser.panel)}"
        return CompressedImage(found.payload, found.quality, found.encodes, why, found.resolution)

    def without_chooser(self) -> "Compressor":
        """Return the same sender, which takes the quality that it is given."""
        if self.chooser is None:
            return self
        return Compressor(self.codec, self.preprocessor, ladder=self.ladder, facts=self._facts)

    def at_full_size(self) -> "Compressor":
        """Return the same sender, whose chooser takes the quality alone: every pixel is coded.

        For a receiver that needs them, a segmenter of thin things, say. Without a chooser it is this sender; what a
        preprocessor was trained to code smaller stays smaller.
        """
        if self.chooser is None:
            return self
        use = replace(self.chooser, chooser=self.chooser.chooser.at_full_size())
        return Compressor(self.codec, self.preprocessor, ladder=self.ladder, facts=self._facts, chooser=use)

    def compress_many(
        self, images: Iterable[ImageSource], target: QualityTarget | KeepAnswer | float
    ) -> Iterator[CompressedImage]:
        """Yield the payloads of many images, in order; for files and folders by several workers see `compress_files`.

        Args:
            images: taken one by one, as `compress` takes them.
            target: a quality for all, or how it is chosen for each.

        Raises:
            PrecompError: as `compress` raises it, for the image at which it stands.
        """
        chosen = target if isinstance(target, QualityTarget | KeepAnswer) else QualityTarget(quality=target)
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
        codec: Codec | str | None = None,
        preprocessor: Preprocessor | None = None,
        panel: Mapping[str, TaskModel] | None = None,
        device: torch.device | str | None = None,
        max_pixels: int | None = None,
        trust: bool = False,
        observer: Callable[[Event], None] | None = None,
    ) -> Self:
        """Read a file of `save`, the folder of a training run, or a sender that comes with the package.

        What is not given is constructed by the name and the options in the file. A file may come from anybody, so it
        may name components and plain options only: one that names a path, a program or a module is refused.

        Args:
            path: of the file or folder; or the name of a shipped sender, such as ``"general"``, where nothing is there
                under that name.
            registry: of the names in it; None takes the installed plugins.
            codec: the codec to use, or its name: one of a shipped sender's (default: JPEG), else the one in the file.
            preprocessor: an object to load the weights into; it must be of the kind in the file.
            panel: the members of a chooser in the file; None: shipped networks.
            device: where the network works; None: where it is.
            max_pixels: largest image that the codec of the file takes, where it has such a limit; None: its default.
            trust: accept options that name paths, programs and modules, where you know who made the file.
            observer: receives a notice where the codec's library has another version than in training.

        Raises:
            CheckpointError: the file is damaged, or codec, its options or preprocessor differ from what it says.
            UnknownNameError: no plugin offers a name in it.
        """
        path = find_model(path, codec.name if isinstance(codec, Codec) else codec)
        if path.is_dir():
            path = path / WEIGHTS_FILE
        saved = read_module(path)
        name, options, ladder = codec_of(saved, path)
        registry = registry or Registry()  # loads nothing before it is asked
        if codec is None or codec == name:
            codec = make_codec(name, options, registry, path, trust, max_pixels)
        elif isinstance(codec, str):
            codec = registry.create("codec", codec)
        if preprocessor is None:
            refuse_without_parts(saved.name, registry, path)
            preprocessor = make_preprocessor(saved, registry, path, trust)
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
        preprocessor, facts = preprocessor.to(place), dict(saved.facts)
        told, use = facts.pop("chooser", None), None
        if told is not None:
            use = ChooserUse.of(told, codec, preprocessor, ladder, path, registry=registry, panel=panel)
        made = cls(codec, preprocessor, ladder=ladder, facts=facts, chooser=use)
        made._facts["codec_version_in_training"] = trained
        return made

    @classmethod
    def from_pretrained(
        cls,
        repo: str | Path,
        registry: Registry | None = None,
        *,
        revision: str | None = None,
        cache: Path | str | None = None,
        offline: bool = False,
        device: torch.device | str | None = None,
        observer: Callable[[Event], None] | None = None,
    ) -> Self:
        """Read a sender from the Hugging Face hub (the extra ``hub``), or from a folder in a repository's layout.

        Its file comes from anybody: it names components and plain options, and runs nothing; there is no way around.

        Args:
            repo: ``"user/repo"``, or a folder.
            registry: of the names in the file; None takes the installed plugins.
            revision: a branch, a tag or a commit; None: the main branch.
            cache: folder of the hub's cache; None: its own.
            offline: look into the cache alone.
            device: as `load` has it.
            observer: likewise.

        Raises:
            CheckpointError: there is no such repository or file, or `load` refuses it.
            MissingDependencyError: huggingface_hub is not installed.
        """
        found = find_on_hub(repo, revision=revision, cache=cache, offline=offline)
        return cls.load(found, registry, device=device, observer=observer)

    def push_to_hub(self, repo: str, *, private: bool = False, message: str = "A sender", api: Any = None) -> str:
        """Write the sender and a card to a repository on the Hugging Face hub; return the address of the commit.

        Args:
            repo: ``"user/repo"``; made where it is not there.
            private: of a new repository.
            message: of the commit.
            api: an ``HfApi`` with a token of its own; None: one with the user's.

        Raises:
            CheckpointError: the preprocessor works with more than its file holds, or the hub refused it.
            MissingDependencyError: huggingface_hub is not installed.
        """
        return push(self, repo, private=private, message=message, api=api)

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

    def _checked(self, source: ImageSource, quality: float) -> Tensor:
        image = as_image(source)
        self.check_quality(quality)
        if image.shape[1] * image.shape[2] >= _LARGE_PX and self.channel.preprocessor is not None:
            check_memory(self.preprocessor, (int(image.shape[1]), int(image.shape[2])))
        return image

    def check_quality(self, quality: float) -> None:
        """Refuse a quality that the network was not trained for.

        Raises:
            QualityError: it lies outside the ladder.
        """
        value = self.codec.quality_scale.check(quality)
        if not min(self.ladder) <= value <= max(self.ladder):
            raise QualityError(
                where=f"Compressor, {self.codec.quality_scale.name}",
                expected=f"a quality it was trained for, from {min(self.ladder):g} to {max(self.ladder):g}",
                got=f"{value:g}",
                remedy="Train with a wider ladder, or use the codec alone there.",
            )
