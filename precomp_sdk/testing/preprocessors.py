"""The checks of a `Preprocessor`."""

import json
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from precomp_sdk.errors import ContractError, ImageError
from precomp_sdk.images import stack_images, to_float, to_uint8
from precomp_sdk.preprocessor import Preprocessor
from precomp_sdk.testing._tools import (
    copied,
    gradients,
    natural_batch,
    not_applicable,
    options_of,
    require_close,
    require_declared,
    require_refused,
    stray_tensors,
    without_cuda,
)
from precomp_sdk.testing.checks import Check, CheckFailedError, NotApplicableError, Numbered, numbered, require
from precomp_sdk.testing.images import ODD_SIZES, extreme_images, natural_image
from precomp_sdk.tiles import preprocess_in_tiles

__all__ = ["PREPROCESSOR_CHECKS", "PreprocessorSettings"]

_HALF_A_LEVEL = 0.5 / 255.0  # what rounding to 8 bit takes away
_CLOSE_MEAN, _CLOSE_LARGEST = 1e-4, 2e-3  # a batch may sum in another order
_UNTRAINED = "it is not trained"
_TILED = (261, 335)  # height and width of the image that is processed in tiles: several, and some cut off
_TILED_SHARE = 1e-4  # of samples that the order of sums may move over a rounding threshold
_STIR = 0.3  # how far a network is taken from its start, relative to its parameters


@dataclass(frozen=True, slots=True)
class PreprocessorSettings:
    """How a preprocessor is checked.

    Args:
        size: height and width of the images, but for those of N3.
        sizes: heights and widths for N3.
        make: returns a fresh preprocessor with the same options; None calls its class with its ``options``.
    """

    size: tuple[int, int] = (40, 56)
    sizes: tuple[tuple[int, int], ...] = ODD_SIZES
    make: Callable[[], Preprocessor] | None = None


_DEFAULT = PreprocessorSettings()

PREPROCESSOR_CHECKS: list[Check] = []  #: what every preprocessor has to pass, in order
check: Numbered = numbered(PREPROCESSOR_CHECKS)


@check("N1", "The class says its name in kebab-case, its source and the multiple of its sizes, 1 or more.")
def declares_itself(preprocessor: Preprocessor, settings: PreprocessorSettings = _DEFAULT) -> None:
    require_declared(preprocessor, ("multiple", int))
    require(preprocessor.multiple >= 1, f"expected a multiple of 1 or more; got {preprocessor.multiple}")


@check("N2", "A fresh one changes no sample by half an 8-bit level, in training mode too; not if it is never trained.")
def starts_as_the_identity(preprocessor: Preprocessor, settings: PreprocessorSettings = _DEFAULT) -> None:
    not_applicable(preprocessor.trainable, _UNTRAINED)
    for train in (False, True):
        fresh = _fresh(preprocessor, settings).train(train)
        batch = natural_batch(3, settings.size)
        change = float((fresh(batch, [0.0, 0.5, 1.0]).detach() - batch).abs().max())
        mode = "training" if train else "evaluation"
        require(change < _HALF_A_LEVEL, f"expected the identity in {mode} mode; got a change of {change:.3g}")


@check("N3", "Images of any size from 1x1 come back in their size.")
def any_size(preprocessor: Preprocessor, settings: PreprocessorSettings = _DEFAULT) -> None:
    network = _stirred(preprocessor)
    wrong = []
    for size in settings.sizes:
        try:
            images = network(natural_batch(2, size), [0.0, 1.0])
            require(images.shape == (2, 3, *size), f"got {tuple(images.shape)}")
        except Exception as error:
            wrong.append(f"{size[0]}x{size[1]}: {type(error).__name__}: {error}")
    require(not wrong, f"{len(wrong)} of {len(settings.sizes)} sizes fail; the first: {(wrong or [''])[0]}")


@check("N4", "In a batch of several strengths, each image gets what it gets alone, in evaluation mode.")
def mixed_strengths(preprocessor: Preprocessor, settings: PreprocessorSettings = _DEFAULT) -> None:
    network = _stirred(preprocessor)
    strengths = [0.0, 1.0, 0.4, 0.0]
    batch = natural_batch(len(strengths), settings.size)
    together = network(batch, strengths)
    for index, strength in enumerate(strengths):
        alone = network(batch[index : index + 1], strength)
        _require_alike(f"image {index} at strength {strength:g}", together[index : index + 1], alone)


@check("N5", "The result has a finite gradient to every image, that is not zero; not if it is never trained.")
def image_gradient(preprocessor: Preprocessor, settings: PreprocessorSettings = _DEFAULT) -> None:
    not_applicable(preprocessor.trainable, _UNTRAINED)
    images = natural_batch(2, settings.size).requires_grad_()
    result = copied(preprocessor)(images, [0.3, 1.0])
    gradients("result", (result * _direction(settings)).sum(), images)


@check("N6", "In training mode, parameters have finite gradients, and from the start some are not zero.")
def parameter_gradient(preprocessor: Preprocessor, settings: PreprocessorSettings = _DEFAULT) -> None:
    network = copied(preprocessor, train=True)
    parameters = dict(network.named_parameters())
    not_applicable(parameters, "it has no parameters")
    value = (network(natural_batch(2, settings.size), [0.3, 1.0]) * _direction(settings)).sum()
    require(value.requires_grad, "expected gradients to the parameters; got a result that is detached from them")
    found = torch.autograd.grad(value, list(parameters.values()), allow_unused=True)
    known = {name: gradient for name, gradient in zip(parameters, found, strict=True) if gradient is not None}
    wrong = [name for name, gradient in known.items() if not bool(torch.isfinite(gradient).all())]
    require(not wrong, f"expected finite gradients; got others for {wrong}")
    require(any(bool(gradient.any()) for gradient in known.values()), "expected a gradient somewhere; all are zero")


@check("N7", "Results are finite and in [0, 1], wherever training has led and for extreme images too.")
def stays_in_range(preprocessor: Preprocessor, settings: PreprocessorSettings = _DEFAULT) -> None:
    network = _stirred(preprocessor, 4.0 * _STIR)
    extremes = stack_images([*extreme_images(*settings.size).values()])
    for batch in (natural_batch(2, settings.size), extremes):
        for strength in (0.0, 1.0):
            images = network(batch, strength).detach()
            right = bool(((images >= 0.0) & (images <= 1.0)).all())  # False for NaN
            require(right, f"expected samples in [0, 1]; got {float(images.min()):.4g} to {float(images.max()):.4g}")


@check("N8", "In evaluation mode, the same images and strengths give the same result, whatever came between.")
def deterministic(preprocessor: Preprocessor, settings: PreprocessorSettings = _DEFAULT) -> None:
    network = _stirred(preprocessor)
    batch = natural_batch(2, settings.size)
    first = network(batch, [0.2, 0.9])
    network(natural_batch(3, (24, 24), first_seed=5), 0.5)
    require(torch.equal(network(batch, [0.2, 0.9]), first), "expected the same result; the second differs")


@check("N9", "With its ``options``, plain JSON values, and its ``state_dict``, the class gives the same results again.")
def options_rebuild_it(preprocessor: Preprocessor, settings: PreprocessorSettings = _DEFAULT) -> None:
    """Weights files hold no more than these two.

    One that works with an experiment's ``requires`` is rebuilt by ``make``.
    """
    network = _stirred(preprocessor)
    try:
        options = json.loads(json.dumps(dict(preprocessor.options)))
    except TypeError as error:
        raise CheckFailedError(f"expected options of plain JSON values; got {error}") from error
    again = _fresh(preprocessor, settings) if preprocessor.requires else type(preprocessor)(**options)
    with_weights_file = preprocessor.requires and preprocessor.trainable
    missing = sorted(options_of(type(preprocessor)) - options.keys()) if with_weights_file else []
    require(not missing, f"expected all arguments of the constructor in options; {', '.join(missing)} is missing")
    require(dict(again.options) == dict(preprocessor.options), f"expected the same options; got {dict(again.options)}")
    again.load_state_dict(network.state_dict())
    batch = natural_batch(2, settings.size)
    _require_alike("rebuilt", again.eval()(batch, [0.1, 0.8]), network(batch, [0.1, 0.8]))


@check("N10", "Neither the images nor the strengths are changed in place.")
def leaves_its_input_alone(preprocessor: Preprocessor, settings: PreprocessorSettings = _DEFAULT) -> None:
    batch, strengths = natural_batch(2, settings.size), torch.tensor([0.2, 0.9])
    before = batch.clone(), strengths.clone()
    _stirred(preprocessor)(batch, strengths)
    same = torch.equal(batch, before[0]) and torch.equal(strengths, before[1])
    require(same, "expected images and strengths as they were; got some that were changed in place")


@check("N11", "It moves between devices: all tensors are parameters or buffers; a GPU, if any, gives the same results.")
def moves(preprocessor: Preprocessor, settings: PreprocessorSettings = _DEFAULT) -> None:
    """Results in double precision are double precision."""
    stray = stray_tensors(preprocessor)
    require(not stray, f"expected tensors in parameters and buffers only; got {stray}")
    not_applicable(not preprocessor.requires, "what it works with does not move with it")
    network, batch = _stirred(preprocessor), natural_batch(2, settings.size)
    expected = network(batch, [0.1, 0.8])
    double = copied(network).double()(batch.double(), [0.1, 0.8])
    require(double.dtype == torch.float64, f"expected a result in float64; got {double.dtype}")
    _require_alike("double precision", double, expected)
    if without_cuda():
        return
    moved = copied(network).cuda()(batch.cuda(), [0.1, 0.8])
    require(moved.is_cuda, "expected a result on the images' device; got another")
    _require_alike("on the GPU", moved, expected)


@check("N12", "Strengths outside [0, 1] raise `ContractError`, what is not a float batch raises `ImageError`.")
def refuses_wrong_input(preprocessor: Preprocessor, settings: PreprocessorSettings = _DEFAULT) -> None:
    network, batch = copied(preprocessor), natural_batch(2, settings.size)
    for strengths in ([0.0, 1.5], [-0.5, 0.0], [float("nan"), 0.0], [0.1, 0.2, 0.3]):
        call = lambda given=strengths: network(batch, given)  # noqa: E731  # type: ignore[misc]
        require_refused(f"strengths {strengths}", ContractError, call)
    for name, images in (("one image", batch[0]), ("8-bit samples", to_uint8(batch))):
        require_refused(name, ImageError, lambda images=images: network(images, 0.5))  # type: ignore[misc]


@check("N13", "The resolution is above 0 and up to 1 at every strength, and comes with the options.")
def resolution(preprocessor: Preprocessor, settings: PreprocessorSettings = _DEFAULT) -> None:
    fresh = _fresh(preprocessor, settings)
    for step in range(21):
        strength = step / 20
        factor = preprocessor.resolution(strength)
        require(0 < factor <= 1, f"expected a factor above 0 and up to 1; got {factor!r} at strength {strength:g}")
        again = fresh.resolution(strength)
        require(again == factor, f"expected {factor} at strength {strength:g} of a fresh one too; got {again}")


@check("N14", "In tiles it gives what it gives whole, but for one level on one sample in 10,000; if it has a tiling.")
def tiles(preprocessor: Preprocessor, settings: PreprocessorSettings = _DEFAULT) -> None:
    """Overlap and reduced pass are as large as they have to be."""
    not_applicable(preprocessor.tiling is not None, "it has no tiling")
    with torch.no_grad():
        tested = _stirred(preprocessor).eval()
        image = natural_image(*_TILED)
        whole = to_uint8(tested(to_float(image)[None], 0.7))[0]
        for tile_px in (48, 96):
            tiled = preprocess_in_tiles(tested, image, 0.7, tile_px=tile_px)
            off = (tiled.int() - whole.int()).abs()
            share = float((off > 0).float().mean())
            good = int(off.max()) <= 1 and share <= _TILED_SHARE
            got = f"{int(off.max())} levels at most, {share:.3%} of the samples"
            require(good, f"tiles of {tile_px} pixels: expected one level on 1 of 10,000 samples; got {got}")


@check("N15", "Under mixed precision (bfloat16) it trains: a result of the images' type, finite values and gradients.")
def mixed_precision(preprocessor: Preprocessor, settings: PreprocessorSettings = _DEFAULT) -> None:
    network = copied(_stirred(preprocessor), train=True)
    images = natural_batch(2, settings.size).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        result = network(images, [0.3, 1.0])
    require(result.dtype == images.dtype, f"expected {images.dtype}, as the images are; got {result.dtype}")
    require(bool(torch.isfinite(result).all()), "expected finite values; got others")
    if result.requires_grad:
        wanted = [images, *(one for one in network.parameters() if one.requires_grad)]
        found = torch.autograd.grad((result * _direction(settings)).sum(), wanted, allow_unused=True)
        finite = all(bool(torch.isfinite(one).all()) for one in found if one is not None)
        require(finite, "expected finite gradients; got others")


def _fresh(preprocessor: Preprocessor, settings: PreprocessorSettings) -> Preprocessor:
    if settings.make is not None:
        return settings.make()
    if preprocessor.requires:
        raise NotApplicableError(f"give a callable that constructs it with its {' and '.join(preprocessor.requires)}")
    return type(preprocessor)(**preprocessor.options)


def _stirred(preprocessor: Preprocessor, share: float = _STIR) -> Preprocessor:
    """Return a copy in evaluation mode whose parameters were moved at random, so that it is the identity no more."""
    network = copied(preprocessor)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in network.parameters():
            deviation = share * (parameter.square().mean().sqrt() + 0.1)  # those that start at zero move too
            parameter.add_(deviation * torch.randn(parameter.shape, generator=generator).to(parameter))
    return network


def _direction(settings: PreprocessorSettings) -> Tensor:
    """Return weights for a scalar of the result, so that no symmetry cancels its gradient."""
    return natural_batch(2, settings.size, first_seed=7) - 0.5


def _require_alike(what: str, got: Tensor, expected: Tensor) -> None:
    require_close(what, got, expected, mean=_CLOSE_MEAN, largest=_CLOSE_LARGEST)
