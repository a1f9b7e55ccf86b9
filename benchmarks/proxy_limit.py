"""How much of a codec's error an image tells at all, for docs/results.md.

An image and its copies with noise of half a level are one image to any proxy that answers smoothly; the codec
answers each of them otherwise. The mean of its answers to the copies is the best such a proxy can do. How much
closer that mean is to the codec's answer to the image itself than the source is, in dB, is a limit for the gain that
``precomp evaluate-proxy`` reports.

The bits of the copies differ, too. How much (the standard deviation over an image's copies, relative to their mean,
median over images) is what a rate step has to rise above to be seen.

    python benchmarks/proxy_limit.py bpg DIR_VAL
"""

import argparse
from pathlib import Path

import torch
from torch import Tensor

from precomp_data import Geometry, UnlabelledFolder
from precomp_sdk import Registry, Transcoder

NOISE_LEVELS = 0.5  # standard deviation before rounding: a third of the samples move, by one level


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("codec", help="its name")
    parser.add_argument(
        "images", type=Path, help="folder of photographs; downscaled to 192 pixels, 160 x 160 are taken"
    )
    parser.add_argument("--count", type=int, default=32)
    parser.add_argument("--copies", type=int, default=16)
    options = parser.parse_args()
    codec = Registry().create("codec", options.codec)
    dataset = UnlabelledFolder(root=options.images, geometry=Geometry(resize=192, crop=160))
    places = torch.linspace(0, len(dataset) - 1, options.count).long().tolist()
    sources = [dataset[place].image for place in places]
    generator = torch.Generator().manual_seed(0)
    print(f"{codec.version}\n")
    print(f"| {codec.quality_scale.name} | source, dB | limit of the gain, dB | bits differ by |")
    print("| --- | --- | --- | --- |")
    with Transcoder(codec) as transcoder:
        for quality in codec.quality_scale.ladder:
            rows = [_measure(transcoder, source, quality, options.copies, generator) for source in sources]
            plain, gain, _ = torch.tensor(rows).mean(dim=0).tolist()
            spread = float(torch.tensor(rows)[:, 2].median())
            print(f"| {quality:g} | {plain:.1f} | {gain:+.1f} | {spread:.1%} |", flush=True)


def _measure(
    transcoder: Transcoder, source: Tensor, quality: float, copies: int, generator: torch.Generator
) -> tuple[float, float, float]:
    """Return the PSNR of a source (3, H, W) against the codec's image, the gain of the copies' mean, their spread."""
    noise = torch.randn((copies, *source.shape), generator=generator) * NOISE_LEVELS
    noise[0] = 0.0  # the image itself
    inputs = (source / 255.0)[None] + noise.round() / 255.0
    decoded, bits = transcoder.submit(inputs.clamp(0.0, 1.0), [quality] * copies).tensors(inputs)
    answer, mean = decoded[0], decoded[1:].mean(dim=0)
    plain = (source / 255.0 - answer).square().mean()
    # the mean of n answers lies 1/n of their variance off the true mean, and the answer a whole variance
    limit = (mean - answer).square().mean() / (1.0 + 1.0 / (copies - 1))
    spread = bits[1:].std() / bits[1:].mean()
    return float(-10.0 * plain.log10()), float(10.0 * (plain / limit).log10()), float(spread)


if __name__ == "__main__":
    main()
