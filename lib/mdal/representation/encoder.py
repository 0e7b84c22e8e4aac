"""One small 3-D encoder per modality, which computes features at every position."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from lib.mdal.representation.views import Shape


@dataclass(frozen=True)
class EncoderSettings:
    """Size of an encoder.

    Attributes:
        width: Channels after the first layer; they double in each further layer. A width of 8 trains in
            seconds on a CPU.
        strides: Stride of each convolution along D, H, W. The first is strided, as the layer at the full
            resolution would take most of the time.
        features: Number of features K at a position; small, because pools are small.
        temperature: Initial value of the learnable temperature.
        min_temperature: Lower bound of the temperature; below it one hard negative would rule the loss.
    """

    width: int = 8
    strides: tuple[Shape, ...] = ((1, 2, 2), (2, 2, 2), (1, 1, 1))
    features: int = 32
    temperature: float = 0.07
    min_temperature: float = 0.02

    def __post_init__(self) -> None:
        """Refuse invalid sizes and temperatures."""
        if min(self.width, self.features) < 1:
            raise ValueError(f"width and features must be at least 1; got {self.width} and {self.features}.")
        if not self.strides or min(min(stride) for stride in self.strides) < 1:
            raise ValueError(
                f"strides must name one convolution or more, each at least 1; got {self.strides}."
            )
        if not 0 < self.min_temperature < self.temperature:
            raise ValueError(
                "0 < min_temperature < temperature must hold; "
                f"got {self.min_temperature} and {self.temperature}."
            )

    @property
    def stride(self) -> Shape:
        """Voxels of a view per feature position, along D, H, W."""
        depth, height, width = (math.prod(steps) for steps in zip(*self.strides, strict=True))
        return depth, height, width


STRIDE = EncoderSettings().stride


class ModalityEncoder(nn.Module):
    """Fully convolutional encoder of one modality, with a unit vector of features at every position."""

    def __init__(self, settings: EncoderSettings) -> None:
        """Build the strided convolutions and a projection of two 1 x 1 x 1 convolutions."""
        super().__init__()
        layers: list[nn.Module] = []
        channels = 1
        for number, stride in enumerate(settings.strides):
            wider = settings.width * 2**number
            layers += [
                nn.Conv3d(channels, wider, 3, stride=stride, padding=1),
                nn.BatchNorm3d(wider),
                nn.GELU(),
            ]
            channels = wider
        self.body = nn.Sequential(*layers)
        self.projection = nn.Sequential(
            nn.Conv3d(channels, channels, 1), nn.GELU(), nn.Conv3d(channels, settings.features, 1)
        )

    def forward(self, view: Tensor) -> Tensor:
        """Features, shape (B, K, d, h, w) and unit norm at each position, of views (B, 1, D, H, W).

        A CPU computes the activations again for the gradients: a fifth more time for a third less memory.
        Batch normalisation then counts each batch twice in its running statistics.
        """
        if self.training and view.device.type == "cpu":
            found: Tensor = checkpoint(self._features, view, use_reentrant=False)
            return found
        return self._features(view)

    def _features(self, view: Tensor) -> Tensor:
        return functional.normalize(self.projection(self.body(view)).float(), dim=1)


class Encoders(nn.Module):
    """One encoder per modality, without shared weights, and the temperature of the contrastive loss."""

    def __init__(self, modalities: int, settings: EncoderSettings) -> None:
        """Build encoders for M modalities."""
        super().__init__()
        self.encoders = nn.ModuleList(ModalityEncoder(settings) for _ in range(modalities))
        self.settings, self.min_temperature = settings, settings.min_temperature
        self.log_excess = nn.Parameter(
            torch.tensor(math.log(settings.temperature - settings.min_temperature))
        )

    @property
    def temperature(self) -> Tensor:
        """Learnable temperature, above `min_temperature`; its gradient is nonzero everywhere."""
        return self.min_temperature + self.log_excess.exp()

    def forward(self, views: Tensor, present: Tensor) -> Tensor:
        """Features of every case and modality, zero where a modality is absent.

        Args:
            views: Views of the cases, shape (B, M, D, H, W).
            present: Modalities that each case has, shape (B, M), bool.

        Returns:
            Features at P = d * h * w positions, shape (B, M, K, P).
        """
        dense = []
        for m, encoder in enumerate(self.encoders):
            rows = present[:, m]
            found = encoder(views[rows, m][:, None]).flatten(2)  # absent ones stay out of batch norm
            if not rows.all():
                found = found.new_zeros(len(views), *found.shape[1:]).index_put((rows,), found)
            dense.append(found)
        return torch.stack(dense, dim=1)


def place_counts(shape: Sequence[int], stride: Shape) -> Shape:
    """Number of feature positions along D, H, W of a view."""
    depth, height, width = (math.ceil(length / step) for length, step in zip(shape, stride, strict=True))
    return depth, height, width


def place_shares(volume: Tensor, stride: Shape) -> Tensor:
    """Mean of a volume over the surroundings of each feature position, one stride wide.

    A strided convolution with a padding of 1 centres position i on voxel i * stride of the view.

    Args:
        volume: Values of each case, shape (B, D, H, W).
        stride: Voxels of a view per position.

    Returns:
        Shape (B, P), over the voxels of the view only.
    """
    counts = place_counts(volume.shape[1:], stride)
    margins = [
        side
        for length, count, step in reversed(list(zip(volume.shape[1:], counts, stride, strict=True)))
        for side in (step // 2, max(0, count * step - step // 2 - length))
    ]
    padded, here = (
        functional.avg_pool3d(functional.pad(each, margins)[:, None], stride)
        for each in (volume.float(), torch.ones_like(volume[:1], dtype=torch.float32))
    )
    depth, height, width = counts
    return (padded / here)[:, 0, :depth, :height, :width].flatten(1)


def foreground_positions(foreground: Tensor, stride: Shape = STRIDE) -> Tensor:
    """Feature positions (B, P) whose surroundings lie mostly in the foreground (B, D, H, W).

    If no position lies mostly in the foreground, the case keeps the position with the most foreground.
    """
    share = place_shares(foreground, stride)
    return share >= share.amax(dim=1, keepdim=True).clamp(max=0.5)
