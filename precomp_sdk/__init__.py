"""Train a neural preprocessor in front of a standard image codec, for machine vision at fewer bits.

What you have: a network is a ClassifierTask, SegmenterTask or DetectorTask, images are a TaskDataset.of(rows). The
contracts behind them, for your own: Codec, ProxyCodec, Preprocessor, TaskModel, TaskDataset. What is installed comes
by name:

    registry = Registry()
    codec, preprocessor = registry.create("codec", "jpeg"), registry.create("preprocessor", "qa-light")

The work: Trainer trains the preprocessor, evaluate measures what it saves, Compressor sends images with it.

    Trainer(codec=codec, preprocessor=preprocessor, task=task).run(dataset, folder="runs/first")
    print(evaluate(codec, task, validation, preprocessors=preprocessor))

Every public name can be imported from here, at first use: dir(precomp_sdk) lists them, __init__.pyi says where each is
defined, help(precomp_sdk.Trainer) explains it. The command line is `precomp`.
"""

import lazy_loader

__version__ = "0.1.0"

# without an __all__, which would make help(precomp_sdk) print every class
_get_public, __dir__ = lazy_loader.attach_stub(__name__, __file__)[:2]


def __getattr__(name: str) -> object:
    try:
        return _get_public(name)
    except AttributeError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name) from None
