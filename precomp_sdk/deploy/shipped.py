"""What comes with the package: senders for networks that nobody trained for, and the small networks they ask.

    shipped/NAME/CODEC.safetensors   a sender as `Compressor.save` writes it, its quality chooser in the file's facts
    shipped/networks/NAME.safetensors   a task, fp16

What each was made from, and under which terms, says ``shipped/NOTICE.md``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from precomp_sdk.chooser import PriceCurve, QualityChooser
from precomp_sdk.chooser.quality import Search
from precomp_sdk.codec import Codec
from precomp_sdk.deploy.loading import digest_of, load_task_file
from precomp_sdk.errors import CheckpointError, OptionError, PrecompError, UnknownNameError, nearest
from precomp_sdk.preprocessor import Identity, Preprocessor
from precomp_sdk.registry import Registry
from precomp_sdk.task import TaskModel

__all__ = [
    "DEFAULT_CODEC",
    "ChooserUse",
    "check_same_parts",
    "find_model",
    "load_shipped_task",
    "shipped_models",
    "shipped_network_file",
    "shipped_networks",
]

DEFAULT_CODEC: Final = "jpeg"  #: of a shipped sender, where none is asked for

_FOLDER: Final = Path(__file__).parent / "shipped"
_NETWORKS: Final = "networks"
_SUFFIX: Final = ".safetensors"


def shipped_models() -> dict[str, tuple[str, ...]]:
    """Return the shipped senders by name, each with its codecs."""
    folders = (path for path in sorted(_FOLDER.iterdir()) if path.is_dir() and path.name != _NETWORKS)
    return {folder.name: _names(folder) for folder in folders}


def shipped_networks() -> tuple[str, ...]:
    """Return the names of the shipped networks."""
    return _names(_FOLDER / _NETWORKS)


def shipped_network_file(name: str) -> Path:
    """Return the file of a shipped network: a task's weights, float16, safetensors.

    Raises:
        UnknownNameError: none is called so.
    """
    known = shipped_networks()
    if name not in known:
        raise UnknownNameError(
            where="shipped networks", expected="the name of one", got=repr(name), remedy=nearest(name, known)
        )
    return _FOLDER / _NETWORKS / f"{name}{_SUFFIX}"


def find_model(model: Path | str, codec: str | None = None) -> Path:
    """Return the weights file or the folder that is meant: what is there under that name, else a shipped sender.

    Args:
        model: a path, or the name of a shipped sender.
        codec: of a shipped sender; None: JPEG.

    Raises:
        CheckpointError: there is neither.
        UnknownNameError: the shipped sender has no weights for the codec.
    """
    path, name = Path(model), str(model)
    known = shipped_models()
    if path.exists() or path.suffix or len(path.parts) > 1:  # whatever reads it says what is wrong
        return path
    if name not in known:
        raise CheckpointError(
            where=name,
            expected="a weights file, the folder of a run, or the name of a shipped sender",
            got="neither a file nor a name",
            remedy=nearest(name, known),
        )
    codec = codec or DEFAULT_CODEC
    if codec not in known[name]:
        raise UnknownNameError(
            where=f"shipped sender {name!r}",
            expected=f"one of its codecs: {', '.join(known[name])}",
            got=repr(codec),
            remedy=nearest(codec, known[name]),
        )
    return _FOLDER / name / f"{codec}{_SUFFIX}"


def load_shipped_task(name: str, registry: Registry | None = None) -> TaskModel:
    """Return a shipped network as a task, frozen.

    Raises:
        UnknownNameError: none is called so.
        CheckpointError: its file is damaged.
    """
    return load_task_file(shipped_network_file(name), registry or Registry())


def _names(folder: Path) -> tuple[str, ...]:
    return tuple(sorted(path.stem for path in folder.glob(f"*{_SUFFIX}")))


@dataclass(frozen=True, slots=True)
class ChooserUse:
    """A quality chooser as a sender uses it.

    Args:
        chooser: fitted; of the sender's codec and preprocessor.
        search: as `QualityChooser.choose` has it.
        encodes: likewise.

    Raises:
        NotFittedError: the chooser was not fitted.
    """

    chooser: QualityChooser
    search: Search = "searched"
    encodes: int = 3

    def __post_init__(self) -> None:
        self.chooser.curve  # noqa: B018  # raises where there is none

    def facts(self) -> dict[str, Any]:
        """Return what a file says of it; the panel by the digests of its weights."""
        chooser = self.chooser
        return {
            "panel": {name: digest_of(task) for name, task in chooser.panel.items()},
            "panel_px": chooser.panel_px,
            "resolutions": list(chooser.resolutions),
            "trust": chooser.trust,
            "level": chooser.level,
            "monotone": chooser.monotone,
            "curve": chooser.curve.plain(),
            "search": self.search,
            "encodes": self.encodes,
        }

    @classmethod
    def of(
        cls,
        facts: object,
        codec: Codec,
        preprocessor: Preprocessor,
        ladder: Sequence[float],
        path: Path,
        *,
        registry: Registry | None = None,
        panel: Mapping[str, TaskModel] | None = None,
    ) -> "ChooserUse":
        """Return what `facts` was made from.

        Args:
            facts: of the file.
            codec: of the sender.
            preprocessor: likewise; `Identity` counts as none.
            ladder: that it was fitted on.
            path: of the file, for messages.
            registry: of the shipped networks' names.
            panel: its members; None takes shipped networks of those names.

        Raises:
            CheckpointError: the facts are damaged, or the panel is of other weights or not shipped.
        """
        try:
            if not isinstance(facts, Mapping):
                raise TypeError(f"a {type(facts).__name__}")
            digests = {str(name): str(digest) for name, digest in facts["panel"].items()}
            members = cls._members(digests, path, registry) if panel is None else dict(panel)
            found = {name: digest_of(task) for name, task in members.items()}
            if found != digests:
                raise ValueError(f"a panel {found} instead of {digests}")
            chooser = QualityChooser(
                codec,
                members,
                preprocessor=None if isinstance(preprocessor, Identity) else preprocessor,
                ladder=ladder,
                resolutions=facts["resolutions"],
                trust=facts["trust"],
                level=facts["level"],
                monotone=facts["monotone"],
                panel_px=facts["panel_px"],
                curve=PriceCurve.from_plain(facts["curve"]),
            )
            if facts["search"] not in ("exact", "searched") or type(facts["encodes"]) is not int:
                raise ValueError(f"search {facts['search']!r}, {facts['encodes']!r} encodes")
            return cls(chooser, facts["search"], facts["encodes"])
        except CheckpointError:
            raise
        except (PrecompError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise CheckpointError(
                where=f"{path}, chooser",
                expected="a quality chooser as Compressor.save writes it, with the panel it was fitted with",
                got=f"{type(error).__name__}: {str(error)[:300]}",
                remedy="The file is damaged or of another version; or give panel=, the members it was fitted with.",
            ) from error

    @staticmethod
    def _members(digests: Mapping[str, str], path: Path, registry: Registry | None) -> dict[str, TaskModel]:
        unknown = sorted(set(digests) - set(shipped_networks()))
        if unknown:
            raise CheckpointError(
                where=f"{path}, chooser",
                expected=f"a panel of shipped networks: {', '.join(shipped_networks())}",
                got=", ".join(unknown),
                remedy="Give panel= with the networks that it was fitted with.",
            )
        return {name: load_shipped_task(name, registry) for name in digests}


def check_same_parts(use: ChooserUse, codec: Codec, preprocessor: Preprocessor) -> None:
    """Refuse a chooser of another codec or preprocessor than the sender's.

    Raises:
        OptionError: it is one.
    """
    own = None if isinstance(preprocessor, Identity) else preprocessor
    theirs = use.chooser.preprocessor
    if use.chooser.codec is not codec or (None if isinstance(theirs, Identity) else theirs) is not own:
        raise OptionError(
            where="Compressor, option 'chooser'",
            expected="a chooser constructed with this codec and this preprocessor",
            got="one of others",
            remedy="Pass the same objects to QualityChooser and to Compressor.",
        )
