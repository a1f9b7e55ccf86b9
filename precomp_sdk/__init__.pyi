# The public names of precomp_sdk and where each is defined: what type checkers read, and what lazy_loader imports at
# the first use of a name. The only list of them; names are documented where they are defined.

from . import (
    atomic_io as atomic_io,
)
from . import (
    channel as channel,
)
from . import (
    cli as cli,
)
from . import (
    closing as closing,
    codec as codec,
)
from . import (
    codec_layer as codec_layer,
)
from . import (
    config as config,
)
from . import (
    data as data,
)
from . import (
    deploy as deploy,
)
from . import (
    ensemble as ensemble,
)
from . import (
    errors as errors,
)
from . import (
    evaluation as evaluation,
)
from . import (
    events as events,
)
from . import (
    features as features,
)
from . import (
    hookspecs as hookspecs,
)
from . import (
    images as images,
)
from . import (
    jpeg_file as jpeg_file,
)
from . import (
    module_reference as module_reference,
)
from . import (
    module_task as module_task,
)
from . import (
    modules as modules,
)
from . import (
    observers as observers,
)
from . import (
    preprocessor as preprocessor,
)
from . import (
    proxy as proxy,
)
from . import (
    quality as quality,
)
from . import (
    registry as registry,
)
from . import (
    resolution as resolution,
)
from . import (
    run as run,
)
from . import (
    scaffold as scaffold,
)
from . import (
    scoring as scoring,
)
from . import (
    task as task,
)
from . import (
    testing as testing,
)
from . import (
    training as training,
)
from . import (
    transcode as transcode,
)
from . import (
    transmission as transmission,
)
from . import (
    types as types,
)
from . import (
    validation as validation,
)
from .channel import (
    Channel as Channel,
)
from .channel import (
    Coding as Coding,
)
from .codec import Codec as Codec
from .codec_layer import (
    CodecLayer as CodecLayer,
)
from .data import (
    SkippedSample as SkippedSample,
)
from .data import (
    Subset as Subset,
)
from .data import (
    TaskDataset as TaskDataset,
)
from .data import (
    load_samples as load_samples,
)
from .deploy import (
    Compressor as Compressor,
)
from .deploy import (
    export_onnx as export_onnx,
)
from .deploy import (
    measure_cost as measure_cost,
)
from .ensemble import EnsembleTask as EnsembleTask
from .errors import (
    BitstreamError as BitstreamError,
)
from .errors import (
    CalibrationError as CalibrationError,
)
from .errors import (
    CheckpointError as CheckpointError,
)
from .errors import (
    CodecError as CodecError,
)
from .errors import (
    ConfigError as ConfigError,
)
from .errors import (
    ConformanceError as ConformanceError,
)
from .errors import (
    ContractError as ContractError,
)
from .errors import (
    CurveError as CurveError,
)
from .errors import (
    DatasetError as DatasetError,
)
from .errors import (
    DuplicateNameError as DuplicateNameError,
)
from .errors import (
    ExportError as ExportError,
)
from .errors import (
    ImageError as ImageError,
)
from .errors import (
    MissingDependencyError as MissingDependencyError,
)
from .errors import (
    NonFiniteError as NonFiniteError,
)
from .errors import (
    NotFittedError as NotFittedError,
)
from .errors import (
    OptionError as OptionError,
)
from .errors import (
    PluginError as PluginError,
)
from .errors import (
    PrecompError as PrecompError,
)
from .errors import (
    QualityError as QualityError,
)
from .errors import (
    TargetError as TargetError,
)
from .errors import (
    UnknownNameError as UnknownNameError,
)
from .errors import (
    nearest as nearest,
)
from .evaluation import (
    Evaluation as Evaluation,
)
from .evaluation import (
    MeasuredCurve as MeasuredCurve,
)
from .evaluation import (
    ProxyReport as ProxyReport,
)
from .evaluation import (
    TransferMatrix as TransferMatrix,
)
from .evaluation import (
    bd_rate as bd_rate,
)
from .evaluation import (
    bootstrap_bd_rate as bootstrap_bd_rate,
)
from .evaluation import (
    evaluate as evaluate,
)
from .evaluation import (
    evaluate_proxy as evaluate_proxy,
)
from .evaluation import (
    measure_curve as measure_curve,
)
from .evaluation import (
    read_results as read_results,
)
from .evaluation import (
    transfer_matrix as transfer_matrix,
)
from .evaluation import (
    write_report as write_report,
)
from .events import (
    CheckpointSaved as CheckpointSaved,
)
from .events import (
    CurveDone as CurveDone,
)
from .events import (
    Event as Event,
)
from .events import (
    Notice as Notice,
)
from .events import (
    PointMeasured as PointMeasured,
)
from .events import (
    RunFinished as RunFinished,
)
from .events import (
    RunStarted as RunStarted,
)
from .events import (
    StepDone as StepDone,
)
from .features import (
    capture_layers as capture_layers,
)
from .features import (
    check_layer_names as check_layer_names,
)
from .hookspecs import hookimpl as hookimpl
from .image_io import (
    ReadSettings as ReadSettings,
)
from .image_io import (
    as_image as as_image,
)
from .image_io import (
    read_image as read_image,
)
from .image_io import (
    write_image as write_image,
)
from .images import (
    check_batch as check_batch,
)
from .images import (
    check_image as check_image,
)
from .images import (
    coded_size as coded_size,
)
from .images import (
    downscale as downscale,
)
from .images import (
    group_by_size as group_by_size,
)
from .images import (
    pad_to_multiple as pad_to_multiple,
)
from .images import (
    round_to_8_bit as round_to_8_bit,
)
from .images import (
    stack_images as stack_images,
)
from .images import (
    to_float as to_float,
)
from .images import (
    to_uint8 as to_uint8,
)
from .images import (
    upscale as upscale,
)
from .jpeg_file import (
    JPEGHeader as JPEGHeader,
)
from .jpeg_file import (
    check_jpeg as check_jpeg,
)
from .jpeg_file import (
    decode_jpeg as decode_jpeg,
)
from .module_reference import ModuleReference as ModuleReference
from .module_task import ModuleTask as ModuleTask
from .modules import (
    device_of as device_of,
)
from .modules import (
    evaluation_mode as evaluation_mode,
)
from .observers import (
    JSONLObserver as JSONLObserver,
)
from .observers import (
    ProgressObserver as ProgressObserver,
)
from .observers import (
    TensorBoardObserver as TensorBoardObserver,
)
from .observers import (
    fan_out as fan_out,
)
from .preprocessor import Preprocessor as Preprocessor
from .proxy import (
    ANY_CODEC as ANY_CODEC,
)
from .proxy import (
    ProxyCodec as ProxyCodec,
)
from .proxy import (
    check_proxy_codec as check_proxy_codec,
)
from .proxy import (
    quality_tensor as quality_tensor,
)
from .quality import QualityScale as QualityScale
from .registry import (
    Component as Component,
)
from .registry import (
    PluginStatus as PluginStatus,
)
from .registry import (
    Registry as Registry,
)
from .registry import (
    construct as construct,
)
from .resolution import ResolutionCurve as ResolutionCurve
from .scoring import (
    BoxScorer as BoxScorer,
)
from .scoring import (
    EnsembleScorer as EnsembleScorer,
)
from .scoring import (
    MaskScorer as MaskScorer,
)
from .task import (
    LabelScorer as LabelScorer,
)
from .task import (
    Scorer as Scorer,
)
from .task import (
    TaskModel as TaskModel,
)
from .training import (
    AnchorPoint as AnchorPoint,
)
from .training import (
    Calibration as Calibration,
)
from .training import (
    FitProxyResult as FitProxyResult,
)
from .training import (
    FitTaskResult as FitTaskResult,
)
from .training import (
    Trainer as Trainer,
)
from .training import (
    TrainResult as TrainResult,
)
from .training import (
    TrainSettings as TrainSettings,
)
from .training import (
    calibrate as calibrate,
)
from .training import (
    feature_distances as feature_distances,
)
from .training import (
    fit_proxy as fit_proxy,
)
from .training import (
    fit_task as fit_task,
)
from .training import (
    load_fitting_proxy as load_fitting_proxy,
)
from .training import (
    load_module as load_module,
)
from .training import (
    load_proxy as load_proxy,
)
from .training import (
    save_module as save_module,
)
from .training import (
    save_proxy as save_proxy,
)
from .training import (
    score_task as score_task,
)
from .transcode import (
    PendingBatch as PendingBatch,
)
from .transcode import (
    Transcoder as Transcoder,
)
from .transmission import (
    CodedBatch as CodedBatch,
)
from .transmission import (
    Transmission as Transmission,
)
from .transmission import (
    Transmitted as Transmitted,
)
from .transmission import (
    straight_through_bits as straight_through_bits,
)
from .transmission import (
    straight_through_images as straight_through_images,
)
from .types import (
    Boxes as Boxes,
)
from .types import (
    Composite as Composite,
)
from .types import (
    Label as Label,
)
from .types import (
    Mask as Mask,
)
from .types import (
    ProxyOutput as ProxyOutput,
)
from .types import (
    RateAccuracyCurve as RateAccuracyCurve,
)
from .types import (
    RatePoint as RatePoint,
)
from .types import (
    Sample as Sample,
)
from .types import (
    Target as Target,
)
from .types import (
    TargetKind as TargetKind,
)
from .types import (
    Transcoded as Transcoded,
)
from .types import (
    kind_of as kind_of,
)

__version__: str
