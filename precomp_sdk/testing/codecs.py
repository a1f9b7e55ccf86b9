"""The checks of a `Codec`."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from precomp_sdk.codec import Codec
from precomp_sdk.errors import BitstreamError, ImageError, QualityError
from precomp_sdk.images import to_float
from precomp_sdk.quality import QualityScale
from precomp_sdk.testing._tools import (
    TookTooLongError,
    in_threads,
    not_applicable,
    require_declared,
    require_refused,
    within,
)
from precomp_sdk.testing.checks import Check, CheckFailedError, Numbered, numbered, require
from precomp_sdk.testing.images import ODD_SIZES, extreme_images, natural_image

__all__ = ["CODEC_CHECKS", "CodecSettings"]

_LUMA = torch.tensor([0.299, 0.587, 0.114])[:, None, None]
_LUMA_TOLERANCE = 24.0  # of 255: a flat image may be off by as much at the mildest rung of the ladder
_SLACK = 1.02  # distortion may stall from one rung to the next, by the accidents of single images
_SIGNATURES = (b"\x89PNG\r\n\x1a\n", b"GIF89a", b"%PDF-1.7\n", b"PK\x03\x04")


@dataclass(frozen=True, slots=True)
class CodecSettings:
    """How a codec is checked.

    Args:
        size: height and width of the images, but for those of C4.
        images: how many of them the ladder is measured on.
        sizes: heights and widths for C4; a slow codec may take fewer.
        ladder: the qualities to use; None takes the codec's own.
        threads: for C8.
        damages: payloads of each sort for the checks with damaged ones.
        decode_limit_s: a damaged payload has to be answered within this time.
        make: returns a fresh codec like the one that is checked; None calls its class with its ``options``.
    """

    size: tuple[int, int] = (40, 56)
    images: int = 3
    sizes: tuple[tuple[int, int], ...] = ODD_SIZES
    ladder: tuple[float, ...] | None = None
    threads: int = 4
    damages: int = 24
    decode_limit_s: float = 10.0
    make: Callable[[], Codec] | None = None


_DEFAULT = CodecSettings()

CODEC_CHECKS: list[Check] = []  #: what every codec has to pass, in order
check: Numbered = numbered(CODEC_CHECKS)


@check("C1", "The class says its name in kebab-case, its source and its quality scale.")
def declares_itself(codec: Codec, settings: CodecSettings = _DEFAULT) -> None:
    require_declared(codec, ("quality_scale", QualityScale))


@check("C2", "Called with its ``options``, the class makes a codec that writes the same bytes; ``version`` is told.")
def records_options_and_version(codec: Codec, settings: CodecSettings = _DEFAULT) -> None:
    """Result files record both, so that a figure can be measured again."""
    options = codec.options
    require(isinstance(options, Mapping), f"expected options as a mapping; got {type(options).__name__}")
    try:
        again = type(codec)(**options)
    except Exception as error:
        raise CheckFailedError(f"{type(codec).__name__}(**options) raises {type(error).__name__}: {error}") from error
    require(
        _plain(again.options) == _plain(options), f"expected options {dict(options)}; got {dict(again.options)} again"
    )
    image, quality = natural_image(*settings.size), _ladder(codec, settings)[0]
    require(again.encode(image, quality) == codec.encode(image, quality), "expected the same bytes; got others")
    require(isinstance(codec.version, str) and codec.version, f"expected a version; got {codec.version!r}")


@check("C3", "A fresh instance decodes another's bytes to the same image: nothing hides in the encoder.")
def needs_only_the_payload(codec: Codec, settings: CodecSettings = _DEFAULT) -> None:
    for quality in _ends(codec, settings):
        payload = codec.encode(natural_image(*settings.size), quality)
        expected = codec.decode(payload)
        got = _fresh(codec, settings).decode(payload)
        require(torch.equal(got, expected), f"quality {quality:g}: expected the image that the encoder itself decodes")


@check("C4", "Images of any size from 1x1 come back in their size, at both ends of the ladder.")
def any_size(codec: Codec, settings: CodecSettings = _DEFAULT) -> None:
    wrong = []
    for size in settings.sizes:
        for quality in _ends(codec, settings):
            try:
                codec.transcode(natural_image(*size), quality)
            except Exception as error:
                wrong.append(f"{size[0]}x{size[1]} at {quality:g}: {type(error).__name__}: {error}")
    require(not wrong, f"{len(wrong)} of {2 * len(settings.sizes)} fail; the first: {(wrong or [''])[0]}")


@check("C5", "The same image and quality give the same bytes, the same bytes the same image, whatever came between.")
def deterministic(codec: Codec, settings: CodecSettings = _DEFAULT) -> None:
    image, other = natural_image(*settings.size), natural_image(*settings.size, seed=1)
    for quality in _ends(codec, settings):
        payload = codec.encode(image, quality)
        decoded = codec.decode(payload).clone()
        codec.transcode(other, _ends(codec, settings)[0])
        require(codec.encode(image, quality) == payload, f"quality {quality:g}: the second encoding differs")
        require(torch.equal(codec.decode(payload), decoded), f"quality {quality:g}: the second decoding differs")


@check("C6", "The image is not changed, and a view of strided memory gives the bytes of its copy.")
def leaves_its_input_alone(codec: Codec, settings: CodecSettings = _DEFAULT) -> None:
    quality = _ends(codec, settings)[0]
    image = natural_image(*settings.size)
    before = image.clone()
    payload = codec.encode(image, quality)
    require(torch.equal(image, before), "expected the image as it was; got one that was changed in place")
    strided = before.permute(2, 1, 0).contiguous().permute(2, 1, 0)
    require(codec.encode(strided, quality) == payload, "expected the same bytes for a strided view; got others")


@check("C7", "The decoded image belongs to the caller: writing into it changes nothing that is decoded later.")
def gives_its_output_away(codec: Codec, settings: CodecSettings = _DEFAULT) -> None:
    payload = codec.encode(natural_image(*settings.size), _ends(codec, settings)[0])
    first = codec.decode(payload)
    expected = first.clone()
    first.zero_()
    same = torch.equal(codec.decode(payload), expected)
    first.copy_(expected)  # a codec that keeps it fails once, not in every check that follows
    require(same, "expected the same image again; got one that was written to")


@check("C8", "Several threads at a time get the bytes and images that one gets.")
def works_in_threads(codec: Codec, settings: CodecSettings = _DEFAULT) -> None:
    jobs = [
        (natural_image(*settings.size, seed=seed), quality)
        for seed in range(2 * settings.threads)
        for quality in _ends(codec, settings)
    ]

    def work(image: Tensor, quality: float) -> tuple[bytes, Tensor]:
        payload = codec.encode(image, quality)
        return payload, codec.decode(payload)

    alone = [work(*job) for job in jobs]
    together = in_threads(settings.threads, [lambda job=job: work(*job) for job in jobs])  # type: ignore[misc]
    bytes_differ = sum(one[0] != other[0] for one, other in zip(alone, together, strict=True))
    images_differ = sum(not torch.equal(one[1], other[1]) for one, other in zip(alone, together, strict=True))
    require(
        bytes_differ + images_differ == 0,
        f"of {len(jobs)} images, {bytes_differ} got other bytes and {images_differ} another image in threads",
    )


@check("C9", "Bytes that no encoder wrote raise `BitstreamError`, in time.")
def refuses_rubbish(codec: Codec, settings: CodecSettings = _DEFAULT) -> None:
    generator = torch.Generator().manual_seed(9)
    payloads = {"no bytes": b"", "a text": b"This is not an image.\n" * 20}
    for length in (1, 16, 1000):
        payloads |= {f"{length} zeros": bytes(length), f"{length} ones": b"\xff" * length}
    for index in range(settings.damages):
        length = (2, 9, 40, 300, 2000)[index % 5]
        noise = bytes(torch.randint(0, 256, (length,), generator=generator, dtype=torch.uint8).tolist())
        payloads[f"{length} random bytes ({index})"] = noise
        payloads[f"the signature of another format and {length} random bytes ({index})"] = (
            _SIGNATURES[index % 4] + noise
        )
    _require_answers(codec, settings, payloads, may_decode=False)


@check("C10", "A payload that was cut anywhere raises `BitstreamError`, in time.")
def refuses_truncated_payloads(codec: Codec, settings: CodecSettings = _DEFAULT) -> None:
    payloads = {}
    for name, payload in _whole(codec, settings).items():
        cuts = {len(payload) - 1, len(payload) - 2, 1, 2, 4, 8}
        cuts |= {len(payload) * step // settings.damages for step in range(1, settings.damages)}
        for cut in sorted(cuts):
            if 0 < cut < len(payload):
                payloads[f"{cut} of {len(payload)} bytes of {name}"] = payload[:cut]
    _require_answers(codec, settings, payloads, may_decode=False)


@check("C11", "A payload with a flipped bit, or whose end is rubbish, gives an image or a `BitstreamError`, in time.")
def survives_flipped_bits(codec: Codec, settings: CodecSettings = _DEFAULT) -> None:
    generator = torch.Generator().manual_seed(11)
    payloads = {}
    for name, payload in _whole(codec, settings).items():
        places = torch.randint(0, 8 * len(payload), (settings.damages,), generator=generator).tolist()
        places += [
            8 * byte + byte % 8 for byte in range(min(len(payload), settings.damages))
        ]  # headers are at the start
        for place in places:
            damaged = bytearray(payload)
            damaged[place // 8] ^= 1 << place % 8
            payloads[f"bit {place} of {name} flipped"] = bytes(damaged)
        noise = bytes(torch.randint(0, 256, (len(payload),), generator=generator, dtype=torch.uint8).tolist())
        for kept in (len(payload) // 4, len(payload) // 2):
            payloads[f"{kept} bytes of {name}, then rubbish"] = payload[:kept] + noise[kept:]
    _require_answers(codec, settings, payloads, may_decode=True)


@check("C12", "From the mildest rung of the ladder to the strongest, bits fall at every step.")
def bits_fall_along_the_ladder(codec: Codec, settings: CodecSettings = _DEFAULT) -> None:
    ladder = _ladder(codec, settings)
    not_applicable(len(ladder) > 1, "the ladder has one rung")
    totals = [sum(8 * len(codec.encode(image, quality)) for image in _images(settings)) for quality in ladder]
    require(
        all(milder > stronger for milder, stronger in pairwise(totals)),
        f"expected falling bits; got {_told(ladder, totals)}",
    )


@check("C13", "From the mildest rung of the ladder to the strongest, the squared error grows.")
def distortion_grows_along_the_ladder(codec: Codec, settings: CodecSettings = _DEFAULT) -> None:
    ladder = _ladder(codec, settings)
    not_applicable(len(ladder) > 1, "the ladder has one rung")
    errors = [
        sum(
            float((codec.transcode(image, quality).image.double() - image).square().mean())
            for image in _images(settings)
        )
        / settings.images
        for quality in ladder
    ]
    grows = all(milder <= stronger * _SLACK for milder, stronger in pairwise(errors))
    require(grows and errors[0] < errors[-1], f"expected a growing squared error; got {_told(ladder, errors)}")


@check("C14", "Flat, saturated, gray and noisy images come back in their size, flat ones with about their brightness.")
def survives_extreme_images(codec: Codec, settings: CodecSettings = _DEFAULT) -> None:
    for name, image in extreme_images(*settings.size).items():
        for quality in _ends(codec, settings):
            decoded = codec.transcode(image, quality).image
            if name.startswith("all ") and quality == _ends(codec, settings)[0]:
                expected, got = (float((item * _LUMA).sum(dim=0).mean()) for item in (image, decoded))
                require(
                    abs(expected - got) <= _LUMA_TOLERANCE,
                    f"{name}: expected a mean luma of about {expected:.0f}; got {got:.0f}",
                )


@check("C15", "Both ends of the quality scale encode; what lies beyond or between raises `QualityError`.")
def takes_its_whole_scale(codec: Codec, settings: CodecSettings = _DEFAULT) -> None:
    scale, image = codec.quality_scale, natural_image(*settings.size)
    for quality in (scale.minimum, scale.maximum):
        codec.transcode(image, quality)
    beyond = [scale.minimum - 1, scale.maximum + 1, float("nan")] + [scale.minimum + 0.5] * scale.integer
    for quality in beyond:
        require_refused(f"quality {quality:g}", QualityError, lambda quality=quality: codec.encode(image, quality))  # type: ignore[misc]


@check("C16", "What is not ``uint8 (3, H, W)`` raises `ImageError`.")
def refuses_what_is_no_image(codec: Codec, settings: CodecSettings = _DEFAULT) -> None:
    valid, quality = natural_image(*settings.size), _ends(codec, settings)[0]
    wrong = {
        "a float image": to_float(valid),
        "16-bit samples": valid.to(torch.int16),
        "one channel": valid[:1],
        "four channels": torch.cat([valid, valid[:1]]),
        "a batch": valid[None],
        "no pixels": valid[:, :0],
    }
    for name, image in wrong.items():
        require_refused(name, ImageError, lambda image=image: codec.encode(image, quality))  # type: ignore[misc]


def _fresh(codec: Codec, settings: CodecSettings) -> Codec:
    return type(codec)(**codec.options) if settings.make is None else settings.make()


def _ladder(codec: Codec, settings: CodecSettings) -> tuple[float, ...]:
    return codec.quality_scale.from_mild_to_strong(settings.ladder)


def _ends(codec: Codec, settings: CodecSettings) -> tuple[float, float]:
    """Return the mildest and the strongest quality of the ladder."""
    ladder = _ladder(codec, settings)
    return ladder[0], ladder[-1]


def _images(settings: CodecSettings) -> Iterator[Tensor]:
    return (natural_image(*settings.size, seed=seed) for seed in range(settings.images))


def _whole(codec: Codec, settings: CodecSettings) -> dict[str, bytes]:
    """Return whole payloads by name."""
    mild, strong = _ends(codec, settings)
    return {
        "a mild payload": codec.encode(natural_image(*settings.size), mild),
        "a strong payload": codec.encode(natural_image(*settings.size, seed=1), strong),
    }


def _require_answers(codec: Codec, settings: CodecSettings, payloads: Mapping[str, bytes], *, may_decode: bool) -> None:
    """Require that each payload raises `BitstreamError`, or, where it may, decodes."""
    wrong = []
    for name, payload in payloads.items():
        try:
            decoded = within(settings.decode_limit_s, lambda payload=payload: codec.decode(payload))  # type: ignore[misc]
            if not may_decode:
                wrong.append(f"{name}: an image {tuple(decoded.shape)}")
        except BitstreamError:
            continue
        except TookTooLongError as error:
            wrong.append(f"{name}: {error}")
            break  # each further one could take as long
        except Exception as error:
            wrong.append(f"{name}: {type(error).__name__}: {error}")
    allowed = "an image or BitstreamError" if may_decode else "BitstreamError"
    require(not wrong, f"expected {allowed} for {len(payloads)} payloads; got {len(wrong)} others, first {wrong[:1]}")


def _told(ladder: tuple[float, ...], values: list[float] | list[int]) -> str:
    return ", ".join(f"{quality:g}: {value:.6g}" for quality, value in zip(ladder, values, strict=True))


def _plain(options: Mapping[str, object]) -> object:
    return json.loads(json.dumps(dict(options), default=str, sort_keys=True))
