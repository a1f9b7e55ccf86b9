"""Calibration, proxy and task fitting, and the joint trainer."""

from precomp_sdk.training.calibration import calibrate, slopes
from precomp_sdk.training.checkpoints import (
    SavedModule,
    as_recorded,
    load_module,
    read_module,
    read_torch_file,
    save_module,
)
from precomp_sdk.training.loading import Batches, held_back, shuffled
from precomp_sdk.training.objective import (
    AnchorPoint,
    Calibration,
    ObjectiveTerms,
    feature_distances,
)
from precomp_sdk.training.proxy_files import load_fitting_proxy, load_proxy, save_proxy
from precomp_sdk.training.proxy_fitting import FitProxyResult, fit_proxy, fitting_loss
from precomp_sdk.training.rebuilding import rebuild
from precomp_sdk.training.resolutions import (
    FACTORS,
    ResolutionChoice,
    TriedResolution,
    choose_resolutions,
    resolution_points,
)
from precomp_sdk.training.results import TrainResult
from precomp_sdk.training.run_folder import PROXY_FILE, STATE_FILE, TASK_FILE, WEIGHTS_FILE, check_unused, locked
from precomp_sdk.training.settings import FREE_SETTINGS, PARTS, FitProxySettings, FitTaskSettings, TrainSettings
from precomp_sdk.training.task_fitting import FitTaskResult, fit_task, score_task
from precomp_sdk.training.trainer import Trainer
from precomp_sdk.training.units import AnchorUnits, anchor_units

__all__ = [
    "FACTORS",
    "FREE_SETTINGS",
    "PARTS",
    "PROXY_FILE",
    "STATE_FILE",
    "TASK_FILE",
    "WEIGHTS_FILE",
    "AnchorPoint",
    "AnchorUnits",
    "Batches",
    "Calibration",
    "FitProxyResult",
    "FitProxySettings",
    "FitTaskResult",
    "FitTaskSettings",
    "ObjectiveTerms",
    "ResolutionChoice",
    "SavedModule",
    "TrainResult",
    "TrainSettings",
    "Trainer",
    "TriedResolution",
    "anchor_units",
    "as_recorded",
    "calibrate",
    "check_unused",
    "choose_resolutions",
    "feature_distances",
    "fit_proxy",
    "fit_task",
    "fitting_loss",
    "held_back",
    "load_fitting_proxy",
    "load_module",
    "load_proxy",
    "locked",
    "read_module",
    "read_torch_file",
    "rebuild",
    "resolution_points",
    "save_module",
    "save_proxy",
    "score_task",
    "shuffled",
    "slopes",
]
