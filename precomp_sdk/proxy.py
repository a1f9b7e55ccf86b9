"""The contract of a codec's differentiable proxy."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, final

import torch
from torch import Tensor, nn

from precomp_sdk.codec import Codec
from precomp_sdk.described import Described
from precomp_sdk.errors import ContractError, NotFittedError, OptionError, PluginError
from precomp_sdk.images import check_batch
from precomp_sdk.quality import QualityScale
from precomp_sdk.types import ProxyOutput

__all__ = ["ANY_CODEC", "ProxyCodec", "check_proxy_codec", "quality_tensor"]

ANY_CODEC = "*"  #: ``codec_name`` of a proxy that learns any codec


class ProxyCodec(Described, nn.Module, ABC):
    """Predicts, differentiably, what one codec decodes and how many bits it spends.

    Write ``_predict``; validation is done here. Construction takes the codec (its options matter: a proxy for 4:4:4 is
    not one for 4:2:0), then keyword-only options.

    Shapes and units:
        images: (N, 3, H, W) float in [0, 1]; any H, W >= 1.
        qualities: (N,) on the codec's own scale, one per image.
        bits: (N,) float, headers counted.

    Args:
        codec: the codec to stand in for.

    Raises:
        PluginError: the proxy is for another codec.
    """

    name: ClassVar[str]  #: unique, kebab-case
    source: ClassVar[str]  #: the standard or paper this follows
    codec_name: ClassVar[str]  #: the codec it stands in for, or `ANY_CODEC`
    fitted: Tensor  #: () bool, saved with the weights
    fitted_to: str  #: the codec's version that the parameters were fitted to; empty where none were
    needs_fitting: ClassVar[bool] = False  #: True where it is of no use before it was fitted

    def __init__(self, codec: Codec) -> None:
        super().__init__()
        if self.codec_name not in (ANY_CODEC, codec.name):
            raise PluginError(
                where=f"proxy {self.name!r}",
                expected=f"the codec {self.codec_name!r}",
                got=repr(codec.name),
                remedy="Take the proxy that belongs to this codec: `precomp plugins` lists them.",
            )
        self.codec = codec
        self.fitted_to = ""
        self.register_buffer("fitted", torch.tensor(not self.needs_fitting))

    @abstractmethod
    def _predict(self, images: Tensor, qualities: Tensor) -> ProxyOutput:
        """Predict a batch: images (N, 3, H, W) in [0, 1], qualities (N,) on the scale, both on one device."""

    @property
    def options(self) -> Mapping[str, Any]:
        """The options this proxy was constructed with, as plain JSON values: weights files record them."""
        return {}

    def mark_fitted(self, version: str | None = None) -> None:
        """Say that the parameters are fitted: from now on the proxy may be used.

        Args:
            version: of the codec that they were fitted to; None takes the one that is installed.
        """
        self.fitted_to = self.codec.version if version is None else version
        self.fitted = torch.tensor(True, device=self.fitted.device)

    @property
    def quality_scale(self) -> QualityScale:
        """The scale of the codec."""
        return self.codec.quality_scale

    @final  # type: ignore[misc]  # nn.Module declares forward as an attribute
    def forward(self, images: Tensor, qualities: Tensor | Sequence[float] | float) -> ProxyOutput:
        """Predict the decoded images and their bits.

        Raises:
            ImageError: the images are not a float batch (N, 3, H, W).
            QualityError: a quality is off the scale.
            NotFittedError: the proxy needs fitting and was not fitted.
            ContractError: ``_predict`` returned other shapes than promised.
        """
        check_batch(images, f"proxy {self.name!r}")
        if not self.fitted:
            raise NotFittedError(
                where=f"proxy {self.name!r} for {self.codec.name!r}",
                expected="fitted weights",
                got="a proxy that was never fitted",
                remedy=f"Fit it first: precomp fit-proxy --codec {self.codec.name}, or "
                "precomp_sdk.training.fit_proxy(proxy, dataset).",
            )
        values = quality_tensor(qualities, self.quality_scale, len(images)).to(images.device)
        output = self._predict(images, values)
        if output.images.shape != images.shape or output.bits.shape != (len(images),):
            raise ContractError(
                where=f"{type(self).__name__}._predict",
                expected=f"images {tuple(images.shape)} and bits ({len(images)},)",
                got=f"images {tuple(output.images.shape)} and bits {tuple(output.bits.shape)}",
                remedy="Return one decoded image and one number of bits per image.",
            )
        return output


def check_proxy_codec(proxy: ProxyCodec, codec: Codec, where: str) -> None:
    """Refuse a proxy that stands in for another codec, or for the same with other options.

    Raises:
        OptionError: it does.
    """
    ours, theirs = ((item.name, dict(item.coding_options)) for item in (codec, proxy.codec))
    if ours != theirs:
        raise OptionError(
            where=f"{where}, proxy {proxy.name!r}",
            expected=f"one of the codec {ours[0]!r} with {ours[1]}",
            got=f"one of {theirs[0]!r} with {theirs[1]}",
            remedy="Construct the proxy with the codec it is to stand in for.",
        )


def quality_tensor(qualities: Tensor | Sequence[float] | float, scale: QualityScale, count: int) -> Tensor:
    """Return ``count`` qualities as a float32 tensor, each checked against the scale.

    Args:
        qualities: one for all images, or one per image.
        scale: the codec's scale.
        count: number of images.

    Raises:
        QualityError: one is off the scale.
        ContractError: there are neither one nor ``count`` of them.
    """
    flat = qualities.detach().flatten().tolist() if isinstance(qualities, Tensor) else qualities
    values = list(flat) if isinstance(flat, Sequence) else [flat]
    if len(values) == 1:
        values = values * count
    if len(values) != count:
        raise ContractError(
            where="qualities",
            expected=f"one quality, or one for each of {count} images",
            got=f"{len(values)}",
            remedy="Pass a number, or a tensor or list of one number per image.",
        )
    return torch.tensor([scale.check(value) for value in values], dtype=torch.float32)
