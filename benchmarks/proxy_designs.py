"""Two designs of a trainable proxy on one budget: the generic proxy, and the paper's, a learned codec.

Both are fitted to BPG with the same images, steps and loss, from scratch, and measured on images neither has seen;
then forward plus backward is timed, side by side, with CompressAI's hyperprior of the same role where it is installed.

    python benchmarks/proxy_designs.py DIR_TRAIN DIR_VAL --steps 1500
"""

import argparse
import json
import time
from pathlib import Path

import torch
from torch import Tensor, nn

from precomp_bpg import BPGCodec
from precomp_data import Geometry, UnlabelledFolder
from precomp_proxy import GenericProxy
from precomp_sdk import Codec, ProxyCodec, ProxyOutput, pad_to_multiple
from precomp_sdk.evaluation import ProxyReport, evaluate_proxy
from precomp_sdk.training import FitProxySettings, fit_proxy

RESULTS = Path(__file__).parent / "results"
SMALLEST_SCALE = 0.11  # of a latent's Gaussian, as in Minnen et al.
LEAST_LIKELIHOOD = 1e-9


class HyperpriorProxy(ProxyCodec):
    """A learned codec with a scale hyperprior, one for all strengths: channel gains depend on the strength.

    Latents are rounded with straight-through gradients; bits are their information under Gaussians whose means and
    scales a hyperprior predicts, times a learned factor.

    Source: Minnen et al., arXiv 1809.02736 (without the autoregressive context); the role: arXiv 2206.05650.
    """

    name, source, codec_name, needs_fitting = "hyperprior", "arXiv 1809.02736", "*", True

    def __init__(self, codec: Codec, *, width: int = 64, latents: int = 96) -> None:
        super().__init__(codec)
        self.analysis = _down(3, width, latents, stages=4)
        self.synthesis = _up(latents, width, 3, stages=4)
        self.hyper_analysis = _down(latents, width, width, stages=2)
        self.hyper_synthesis = _up(width, width, 2 * latents, stages=2)
        self.gains = nn.Sequential(nn.Linear(1, 32), nn.ReLU(), nn.Linear(32, 2 * latents))
        self.hyper_log_scales = nn.Parameter(torch.zeros(width))
        self.log_factor = nn.Parameter(torch.zeros(()))

    def _predict(self, images: Tensor, qualities: Tensor) -> ProxyOutput:
        strengths = torch.tensor([self.quality_scale.strength(quality) for quality in qualities.tolist()])
        forward, backward = self.gains(strengths[:, None].to(images)).exp()[:, :, None, None].chunk(2, dim=1)
        height, width = images.shape[-2:]
        latents = self.analysis(pad_to_multiple(images, 64) - 0.5) * forward
        hyper = _rounded(self.hyper_analysis(latents))
        means, log_scales = self.hyper_synthesis(hyper).chunk(2, dim=1)
        coded = _rounded(latents)
        bits = _information(coded - means, log_scales.exp())
        bits = bits + _information(hyper, self.hyper_log_scales.exp()[:, None, None])
        decoded = self.synthesis(coded * backward) + 0.5
        return ProxyOutput(decoded[..., :height, :width].clamp(0, 1), bits * self.log_factor.exp() + 100.0)


def _down(inputs: int, width: int, outputs: int, *, stages: int) -> nn.Sequential:
    sizes = [inputs, *[width] * (stages - 1), outputs]
    layers = [
        layer
        for index in range(stages)
        for layer in (nn.Conv2d(sizes[index], sizes[index + 1], 5, stride=2, padding=2), nn.LeakyReLU())
    ]
    return nn.Sequential(*layers[:-1])


def _up(inputs: int, width: int, outputs: int, *, stages: int) -> nn.Sequential:
    sizes = [inputs, *[width] * (stages - 1), outputs]
    layers = [
        layer
        for index in range(stages)
        for layer in (
            nn.ConvTranspose2d(sizes[index], sizes[index + 1], 5, stride=2, padding=2, output_padding=1),
            nn.LeakyReLU(),
        )
    ]
    return nn.Sequential(*layers[:-1])


def _rounded(values: Tensor) -> Tensor:
    return values + (values.round() - values).detach()


def _information(values: Tensor, scales: Tensor) -> Tensor:
    """Return the bits of whole numbers under Gaussians around 0, (N,)."""
    scales = scales.clamp_min(SMALLEST_SCALE)
    size = values.abs()
    likelihoods = torch.special.ndtr((0.5 - size) / scales) - torch.special.ndtr((-0.5 - size) / scales)
    return -torch.log2(likelihoods.clamp_min(LEAST_LIKELIHOOD)).sum(dim=(1, 2, 3))


def cpu_ms(network: nn.Module, images: Tensor, qualities: list[float] | None, repeats: int) -> float:
    """CPU milliseconds of forward plus backward per image."""

    def step() -> None:
        source = images.clone().requires_grad_(True)
        if qualities is None:  # CompressAI's: likelihoods instead of bits
            output = network(source)
            bits = sum(-torch.log2(value).sum() for value in output["likelihoods"].values())
            (output["x_hat"].square().mean() + bits).backward()
        else:
            predicted = network(source, qualities)
            (predicted.images.square().mean() + predicted.bits.sum()).backward()

    step()
    started = time.process_time()
    for _ in range(repeats):
        step()
    return 1000 * (time.process_time() - started) / (repeats * len(images))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("train", type=Path)
    parser.add_argument("val", type=Path)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    codec = BPGCodec()
    sources = UnlabelledFolder(root=arguments.train, geometry=Geometry(resize=192, crop=128, augment=True))
    unseen = UnlabelledFolder(root=arguments.val, geometry=Geometry(resize=192, crop=160))
    images, qualities = torch.rand(8, 3, 128, 128), [float(quality) for quality in (25, 28, 31, 34, 37, 40, 44, 44)]
    reports: dict[str, ProxyReport] = {}
    milliseconds: dict[str, float] = {}
    parameters: dict[str, int] = {}
    for design in (GenericProxy, HyperpriorProxy):
        torch.manual_seed(0)
        proxy = design(codec)
        parameters[proxy.name] = sum(parameter.numel() for parameter in proxy.parameters())
        fit_proxy(proxy, sources, settings=FitProxySettings(steps=arguments.steps, learning_rate=2e-3))
        reports[proxy.name] = evaluate_proxy(proxy, unseen, sources=arguments.sources)
        proxy.requires_grad_(True)
        milliseconds[proxy.name] = cpu_ms(proxy, images, qualities, arguments.repeats)
    try:
        from compressai.models import ScaleHyperprior
    except ImportError:
        print("compressai is not installed: its row is left out")
    else:
        theirs = ScaleHyperprior(128, 192).train()
        parameters["CompressAI ScaleHyperprior(128, 192)"] = sum(item.numel() for item in theirs.parameters())
        milliseconds["CompressAI ScaleHyperprior(128, 192)"] = cpu_ms(theirs, images, None, arguments.repeats)
    lines = [f"BPG ({codec.version}), {arguments.steps} steps of 8 images, {arguments.sources} unseen images.", ""]
    for name, report in reports.items():
        lines += [f"**{name}**, {parameters[name]} parameters", "", report.table.markdown(), ""]
    base = milliseconds["generic-proxy"]
    lines += [
        "| forward and backward, 128 x 128, one thread | parameters | CPU ms per image | ratio |",
        "|" + " --- |" * 4,
    ]
    lines += [
        f"| {name} | {parameters[name]} | {value:.1f} | {value / base:.1f} |" for name, value in milliseconds.items()
    ]
    text = "\n".join(lines)
    print(text)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "proxy_designs.md").write_text(text + "\n", encoding="utf-8")
    record = {
        "milliseconds": milliseconds,
        "parameters": parameters,
        "reports": {name: json.loads(report.json()) for name, report in reports.items()},
    }
    (RESULTS / "proxy_designs.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
