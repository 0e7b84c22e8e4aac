"""One small 3-D encoder per modality, which computes features at every position."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from lib.mdal.representation.views import Shape

STRIDE: Shape = (2, 4, 4)  # voxels of a view per feature position, along D, H, W


@dataclass(frozen=True)
class EncoderSettings:
    """Size of an encoder.

    Attributes:
        width: Channels after the first layer; they double twice. A width of 8 trains in seconds on a CPU.
        features: Number of features K at a position; small, because pools are small.
        temperature: Initial value of the learnable temperature.
        min_temperature: Lower bound of the temperature; below it one hard negative would rule the loss.
    """

    width: int = 8
    features: int = 32
    temperature: float = 0.07
    min_temperature: float = 0.02

    def __post_init__(self) -> None:
        """Refuse invalid sizes and temperatures."""
        if min(self.width, self.features) < 1:
            raise ValueError(f"width and features must be at least 1; got {self.width} and {self.features}.")
        if not 0 < self.min_temperature < self.temperature:
            raise ValueError(
                "0 < min_temperature < temperature must hold; "
                f"got {self.min_temperature} and {self.temperature}."
            )


class ModalityEncoder(nn.Module):
    """Fully convolutional encoder of one modality, with a unit vector of features at every position."""

    def __init__(self, settings: EncoderSettings) -> None:
        """Build three convolutions, two of them strided, and a projection of two 1 x 1 x 1 convolutions."""
        super().__init__()
        width, features = settings.width, settings.features
        self.body = nn.Sequential(
            nn.Conv3d(1, width, 3, padding=1),
            nn.BatchNorm3d(width),
            nn.GELU(),
            nn.Conv3d(width, 2 * width, 3, stride=(1, 2, 2), padding=1),
            nn.BatchNorm3d(2 * width),
            nn.GELU(),
            nn.Conv3d(2 * width, 4 * width, 3, stride=2, padding=1),
            nn.BatchNorm3d(4 * width),
            nn.GELU(),
        )
        self.projection = nn.Sequential(
            nn.Conv3d(4 * width, 4 * width, 1), nn.GELU(), nn.Conv3d(4 * width, features, 1)
        )

    def forward(self, view: Tensor) -> Tensor:
        """Features, shape (B, K, d, h, w) and unit norm at each position, of views (B, 1, D, H, W)."""
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
            dense.append(found.new_zeros(len(views), *found.shape[1:]).index_put((rows,), found))
        return torch.stack(dense, dim=1)


def foreground_positions(foreground: Tensor) -> Tensor:
    """Feature positions (B, P) that lie mostly in the foreground (B, D, H, W).

    If no position lies mostly in the foreground, the case keeps the position with the most foreground.
    """
    depth, height, width = (math.ceil(n / step) for n, step in zip(foreground.shape[1:], STRIDE, strict=True))
    share = functional.adaptive_avg_pool3d(foreground.float()[:, None], (depth, height, width)).flatten(
        1
    )  # (B, P)
    return share >= share.amax(dim=1, keepdim=True).clamp(max=0.5)
