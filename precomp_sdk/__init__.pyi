# The public names of precomp_sdk and where each is defined: what type checkers read, and what lazy_loader imports at
# the first use of a name. The only list of them; names are documented where they are defined.

from . import (
    allocator as allocator,
    atomic_io as atomic_io,
    avif_file as avif_file,
    channel as channel,
    chooser as chooser,
    cli as cli,
    closing as closing,
    codec as codec,
    codec_layer as codec_layer,
    component as component,
    config as config,
    data as data,
    deploy as deploy,
    described as described,
    engines as engines,
    ensemble as ensemble,
    errors as errors,
    evaluation as evaluation,
    events as events,
    features as features,
    heif_file as heif_file,
    hookspecs as hookspecs,
    image_io as image_io,
    images as images,
    interrupts as interrupts,
    jpeg2000_file as jpeg2000_file,
    jpeg_file as jpeg_file,
    jxl_file as jxl_file,
    module_reference as module_reference,
    module_task as module_task,
    modules as modules,
    network_tasks as network_tasks,
    observers as observers,
    preprocessor as preprocessor,
    proxy as proxy,
    quality as quality,
    registry as registry,
    resolution as resolution,
    run as run,
    scaffold as scaffold,
    scorer as scorer,
    scoring as scoring,
    targets as targets,
    task as task,
    testing as testing,
    tiles as tiles,
    training as training,
    transcode as transcode,
    transmission as transmission,
    types as types,
    validation as validation,
    versions as versions,
    webp_file as webp_file,
    weights as weights,
)
from .channel import (
    Channel as Channel,
    Coding as Coding,
)
from .chooser import (
    ChoosingChannel as ChoosingChannel,
    ChosenQuality as ChosenQuality,
    PriceCurve as PriceCurve,
    PricePoint as PricePoint,
    QualityChooser as QualityChooser,
    answers_apart as answers_apart,
    answers_differ as answers_differ,
)
from .codec import (
    Codec as Codec,
)
from .codec_layer import (
    CodecLayer as CodecLayer,
)
from .component import (
    Component as Component,
    PluginStatus as PluginStatus,
    construct as construct,
)
from .data import (
    DatasetReport as DatasetReport,
    SkippedSample as SkippedSample,
    Subset as Subset,
    TaskDataset as TaskDataset,
    load_samples as load_samples,
)
from .deploy import (
    ChooserUse as ChooserUse,
    Compressor as Compressor,
    Explanation as Explanation,
    KeepAnswer as KeepAnswer,
    explain as explain,
    export_onnx as export_onnx,
    measure_cost as measure_cost,
)
from .ensemble import (
    EnsembleTask as EnsembleTask,
)
from .errors import (
    BitstreamError as BitstreamError,
    CalibrationError as CalibrationError,
    CheckpointError as CheckpointError,
    CodecError as CodecError,
    ConfigError as ConfigError,
    ConformanceError as ConformanceError,
    ContractError as ContractError,
    CurveError as CurveError,
    DatasetError as DatasetError,
    DuplicateNameError as DuplicateNameError,
    ExportError as ExportError,
    ImageError as ImageError,
    MissingDependencyError as MissingDependencyError,
    NonFiniteError as NonFiniteError,
    NotFittedError as NotFittedError,
    OptionError as OptionError,
    PluginError as PluginError,
    PrecompError as PrecompError,
    QualityError as QualityError,
    ResourceError as ResourceError,
    TargetError as TargetError,
    UnknownNameError as UnknownNameError,
    nearest as nearest,
)
from .evaluation import (
    ChooserSettings as ChooserSettings,
    EvaluateProxySettings as EvaluateProxySettings,
    EvaluateSettings as EvaluateSettings,
    Evaluation as Evaluation,
    MeasuredCurve as MeasuredCurve,
    ProxyReport as ProxyReport,
    TransferMatrix as TransferMatrix,
    bd_rate as bd_rate,
    choosing_channels as choosing_channels,
    compare as compare,
    evaluate as evaluate,
    evaluate_proxy as evaluate_proxy,
    measure_curve as measure_curve,
    read_results as read_results,
    transfer_matrix as transfer_matrix,
    write_report as write_report,
)
from .events import (
    CheckpointSaved as CheckpointSaved,
    CurveDone as CurveDone,
    Event as Event,
    Notice as Notice,
    PointMeasured as PointMeasured,
    RunFinished as RunFinished,
    RunStarted as RunStarted,
    StepDone as StepDone,
)
from .features import (
    capture_layers as capture_layers,
    check_layer_names as check_layer_names,
)
from .hookspecs import (
    hookimpl as hookimpl,
)
from .image_io import (
    ReadSettings as ReadSettings,
    as_image as as_image,
    read_image as read_image,
    write_image as write_image,
)
from .images import (
    check_batch as check_batch,
    check_image as check_image,
    coded_size as coded_size,
    downscale as downscale,
    group_by_size as group_by_size,
    group_equal as group_equal,
    pad_to_multiple as pad_to_multiple,
    round_to_8_bit as round_to_8_bit,
    stack_images as stack_images,
    to_float as to_float,
    to_uint8 as to_uint8,
    upscale as upscale,
)
from .jpeg_file import (
    JPEGHeader as JPEGHeader,
    check_jpeg as check_jpeg,
    decode_jpeg as decode_jpeg,
)
from .module_reference import (
    ModuleReference as ModuleReference,
)
from .module_task import (
    ModuleTask as ModuleTask,
)
from .modules import (
    device_of as device_of,
    evaluation_mode as evaluation_mode,
)
from .network_tasks import (
    ClassifierTask as ClassifierTask,
    DetectorTask as DetectorTask,
    LabelTask as LabelTask,
    MaskTask as MaskTask,
    NetworkInput as NetworkInput,
    SegmenterTask as SegmenterTask,
)
from .observers import (
    JSONLObserver as JSONLObserver,
    MLflowObserver as MLflowObserver,
    ProgressObserver as ProgressObserver,
    TensorBoardObserver as TensorBoardObserver,
    WandbObserver as WandbObserver,
    fan_out as fan_out,
)
from .preprocessor import (
    Identity as Identity,
    Preprocessor as Preprocessor,
    Tiling as Tiling,
    Window as Window,
)
from .proxy import (
    ANY_CODEC as ANY_CODEC,
    ProxyCodec as ProxyCodec,
    check_proxy_codec as check_proxy_codec,
    quality_tensor as quality_tensor,
)
from .quality import (
    QualityScale as QualityScale,
)
from .registry import (
    Registry as Registry,
)
from .resolution import (
    ResolutionCurve as ResolutionCurve,
)
from .scorer import (
    Scorer as Scorer,
)
from .scoring import (
    BoxScorer as BoxScorer,
    EnsembleScorer as EnsembleScorer,
    LabelScorer as LabelScorer,
    MaskScorer as MaskScorer,
)
from .targets import (
    Boxes as Boxes,
    Composite as Composite,
    ImageTarget as ImageTarget,
    Label as Label,
    Mask as Mask,
    Target as Target,
)
from .task import (
    TaskModel as TaskModel,
)
from .training import (
    AnchorPoint as AnchorPoint,
    Calibration as Calibration,
    FitProxyResult as FitProxyResult,
    FitProxySettings as FitProxySettings,
    FitTaskResult as FitTaskResult,
    FitTaskSettings as FitTaskSettings,
    Trainer as Trainer,
    TrainResult as TrainResult,
    TrainSettings as TrainSettings,
    calibrate as calibrate,
    feature_distances as feature_distances,
    fit_proxy as fit_proxy,
    fit_task as fit_task,
    load_fitting_proxy as load_fitting_proxy,
    load_module as load_module,
    load_proxy as load_proxy,
    save_module as save_module,
    save_proxy as save_proxy,
    score_task as score_task,
)
from .transcode import (
    PendingBatch as PendingBatch,
    Transcoder as Transcoder,
)
from .transmission import (
    CodedBatch as CodedBatch,
    Transmission as Transmission,
    Transmitted as Transmitted,
    straight_through_bits as straight_through_bits,
    straight_through_images as straight_through_images,
)
from .types import (
    ProxyOutput as ProxyOutput,
    RateAccuracyCurve as RateAccuracyCurve,
    RatePoint as RatePoint,
    Sample as Sample,
    Transcoded as Transcoded,
)

__version__: str
