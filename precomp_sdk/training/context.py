"""What works together in a training run."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from precomp_sdk.chooser import QualityChooser
from precomp_sdk.events import Event
from precomp_sdk.preprocessor import Preprocessor
from precomp_sdk.proxy import ProxyCodec
from precomp_sdk.task import TaskModel
from precomp_sdk.training.settings import TrainSettings
from precomp_sdk.transcode import Transcoder

if TYPE_CHECKING:
    from lightning_fabric import Fabric  # takes a second to import, and a sender does not train

__all__ = ["RunContext"]


@dataclass(frozen=True, slots=True)
class RunContext:
    """What works together in a run, and how.

    Args:
        preprocessor: on the device of the run, as are the other networks.
        proxy: of the codec.
        task: the downstream network.
        transcoder: the real codec and its threads.
        settings: every choice.
        ladder: the qualities, on the codec's scale.
        fabric: device, precision and processes.
        notify: receives every event, in the first process only.
        chooser: takes the quality of each training image, of the drawn one as its operating point.
    """

    preprocessor: Preprocessor
    proxy: ProxyCodec
    task: TaskModel
    transcoder: Transcoder
    settings: TrainSettings
    ladder: tuple[float, ...]
    fabric: "Fabric"
    notify: Callable[[Event], None]
    chooser: QualityChooser | None = None
