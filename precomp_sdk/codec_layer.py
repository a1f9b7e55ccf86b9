"""A real codec as a layer of any PyTorch network."""

from collections.abc import Sequence
from typing import Self

from torch import Tensor, nn

from precomp_sdk.channel import Channel
from precomp_sdk.codec import Codec
from precomp_sdk.images import check_batch
from precomp_sdk.proxy import ProxyCodec, quality_tensor
from precomp_sdk.transcode import Transcoder

__all__ = ["CodecLayer"]


class CodecLayer(nn.Module):
    """A real codec as a layer of any network: its values forward, its proxy's gradient backward.

    Images are coded at full resolution. The proxy is a part of the layer and moves with it, frozen and in evaluation
    mode: fit it first, with `fit_proxy`. Where no gradient is asked for, it is not run.

    Shapes and units:
        images: (N, 3, H, W) float in [0, 1], rounded to 8 bits here, straight through.
        qualities: on the codec's scale, one for all images or one for each.

    Args:
        codec: the real codec.
        proxy: its differentiable proxy.
        workers: threads of the codec; default: one per core.

    Raises:
        OptionError: the proxy is of another codec, or of other options of it.

    Example:
        >>> from precomp_sdk.testing import FakeCodec, FakeProxy
        >>> codec = FakeCodec()
        >>> images = torch.rand(2, 3, 16, 16, requires_grad=True)
        >>> decoded, bits = CodecLayer(codec, FakeProxy(codec))(images, [20, 60])
        >>> (decoded.square().mean() + bits.mean() / 256).backward()
        >>> decoded.shape == images.grad.shape
        True
    """

    def __init__(self, codec: Codec, proxy: ProxyCodec, *, workers: int | None = None) -> None:
        super().__init__()
        self._channel = Channel(Transcoder(codec, workers=workers), proxy=proxy)
        self.proxy: ProxyCodec = proxy.requires_grad_(False).eval()

    def forward(self, images: Tensor, qualities: Tensor | Sequence[float] | float) -> tuple[Tensor, Tensor]:
        """Code a batch.

        Returns:
            The decoded images, (N, 3, H, W) in [0, 1], and the bits of each payload, (N,).

        Raises:
            ImageError: the images are not a float batch (N, 3, H, W), or a sample is NaN.
            QualityError: a quality is off the scale.
            NotFittedError: the proxy needs fitting and was not fitted.
            CodecError: the codec's library failed.
        """
        check_batch(images, type(self).__name__)
        values = quality_tensor(qualities, self._channel.codec.quality_scale, len(images)).tolist()
        return self._channel.submit(images.float(), values).tensors()

    def train(self, mode: bool = True) -> Self:
        """Leave the proxy in evaluation mode."""
        super().train(mode)
        self.proxy.eval()
        return self
