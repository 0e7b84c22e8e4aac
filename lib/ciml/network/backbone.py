"""Encoder and decoder of a U-Net: from a modality to features at every level, and back to logits."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from monai.networks.blocks.convolutions import Convolution
from monai.networks.layers.factories import Conv, Pool
from torch import Tensor, nn
from torch.nn import functional

_ACTIVATION = ("leakyrelu", {"negative_slope": 0.01, "inplace": True})


class Encoder(nn.Module):
    """Features of one modality at every level.

    Normalisation over space erases the scale of the values. For a modality whose values have units, the mean
    value of the voxels under each feature is therefore added after it, through a convolution of size 1 and a
    nonlinearity without normalisation.
    """

    def __init__(
        self,
        channels: Sequence[int],
        strides: Sequence[tuple[int, ...]],
        *,
        spatial_dims: int,
        absolute_values: bool = False,
    ) -> None:
        """Build one stage per level, each downsampling by its stride; `absolute_values` adds the values."""
        super().__init__()
        self.stages = nn.ModuleList(
            _stage(before, after, stride, spatial_dims)
            for before, after, stride in zip((1, *channels), channels, strides, strict=False)
        )
        self.pools = nn.ModuleList(Pool[Pool.AVG, spatial_dims](stride) for stride in strides)
        self.values = nn.ModuleList(
            Convolution(spatial_dims, 1, size, kernel_size=1, adn_ordering="A", act=_ACTIVATION)
            for size in channels
            if absolute_values
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        """Features of every level, finest first.

        Args:
            x: Images of one modality, shape (B, 1, D, H, W).
        """
        features, value = [], x
        for level, stage in enumerate(self.stages):
            x = stage(x)
            if self.values:
                value = self.pools[level](value)
                x = x + self.values[level](value)
            features.append(x)
        return features


class Decoder(nn.Module):
    """Decoder that projects, upsamples, adds the skip and convolves, from the bottleneck up."""

    def __init__(self, regions: int, channels: Sequence[int], *, spatial_dims: int) -> None:
        """Build a decoder for features with `channels`, finest level first."""
        super().__init__()
        convolution = Conv[Conv.CONV, spatial_dims]
        pairs = list(pairwise(channels))
        self.projections = nn.ModuleList(convolution(coarse, fine, kernel_size=1) for fine, coarse in pairs)
        self.stages = nn.ModuleList(
            _stage(fine, fine, (1,) * spatial_dims, spatial_dims) for fine, _ in pairs
        )
        self.head = convolution(channels[0], regions, kernel_size=1)
        self.mode = "trilinear" if spatial_dims == 3 else "bilinear"

    def forward(self, features: list[Tensor], shape: torch.Size) -> Tensor:
        """Logits at the input's size, interpolated where the stem downsampled.

        Args:
            features: Features of every level, finest first.
            shape: Spatial size of the input.
        """
        x = features[-1]
        for level in reversed(range(len(self.stages))):
            x = functional.interpolate(
                self.projections[level](x), size=features[level].shape[2:], mode="nearest"
            )
            x = self.stages[level](x + features[level])
        logits: Tensor = self.head(x)
        if logits.shape[2:] != shape:
            logits = functional.interpolate(logits, size=shape, mode=self.mode, align_corners=False)
        return logits


class InstanceNorm(nn.GroupNorm):
    """Instance normalisation by the faster of torch's two ways to compute it.

    Groups of one channel are the same as instances. With channels-last images, as in inference, torch's group
    norm takes a third of the time of its instance norm; in training its gradient takes twice as long.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalise each channel of each sample over space."""
        if self.training:
            return functional.instance_norm(x, weight=self.weight, bias=self.bias, eps=self.eps)
        return super().forward(x)


def _stage(before: int, after: int, stride: tuple[int, ...], spatial_dims: int) -> nn.Sequential:
    """Two convolutions, each with instance normalisation; the first downsamples."""
    stage = nn.Sequential()
    for channels, step in ((before, stride), (after, (1,) * spatial_dims)):
        convolution = Convolution(
            spatial_dims,
            channels,
            after,
            strides=step,
            adn_ordering="NA",
            norm=("group", {"num_groups": after}),
            act=_ACTIVATION,
        )
        convolution.get_submodule("adn").add_module("N", InstanceNorm(after, after))
        stage.append(convolution)
    return stage
