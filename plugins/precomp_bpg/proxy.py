"""BPG's own trainable proxy: the generic proxy, fitted to BPG."""

from pathlib import Path

from precomp_proxy import GenericProxy

__all__ = ["BPGProxy"]


class BPGProxy(GenericProxy):
    """BPG, differentiable: `precomp_proxy.GenericProxy` with weights for 4:2:0 at the default effort in the package.

    For other options of the codec it has to be fitted first, like any generic proxy. docs/results.md has its report and
    the command that fitted it.

    Args:
        codec: the real codec.
        width: channels of the network.
        depth: its residual blocks.
        rounding: the derivative of quantization, from straight-through (0) to nearness (1).

    Raises:
        OptionError: an option is out of its range.
        PluginError: the codec is not BPG.
    """

    name = "bpg-proxy"
    source = "this project's generic proxy, fitted to BPG 4:2:0 (x265)"
    codec_name = "bpg"
    weights_files = (Path(__file__).parent / "weights" / "bpg_420_default.safetensors",)
