"""Settings of the network: sizes, levels and channels."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

_GONE = ("strict_markov", "deep_supervision")  # false in every checkpoint that this release can load
SIZES: dict[str, dict[str, Any]] = {
    "tiny": {"channels": (8, 16, 32), "strides": ((1, 2, 2), (2, 2, 2), (2, 2, 2)), "message_channels": 8},
    "base": {
        "channels": (32, 64, 128, 128),
        "strides": ((1, 2, 2), (2, 2, 2), (2, 2, 2), (2, 2, 2)),
        "message_channels": 16,
    },
    "large": {
        "channels": (32, 64, 128, 256, 320),
        "strides": ((1, 1, 1), (1, 2, 2), (2, 2, 2), (2, 2, 2), (2, 2, 2)),
        "message_channels": 32,
    },
}


@dataclass(frozen=True)
class NetworkSettings:
    """Settings of the network; the defaults are `tiny`, which trains on the CPU of a laptop.

    Attributes:
        spatial_dims: Number of spatial dimensions, 2 or 3.
        channels: Features of each level, the bottleneck last.
        strides: Downsampling into each level along (D, H, W); the first is the stem's. In plane first, as
            slices are thicker than pixels. A 2-D network uses (H, W).
        message_channels: Channels of z.
        message_levels: Number of levels with messages: the bottleneck and the deepest skips.
        absolute_values: Whether the encoders of modalities with units (CT, PET) see the values themselves,
            which normalisation erases. Checkpoints of earlier releases say nothing; theirs do not.
    """

    spatial_dims: int = 3
    channels: tuple[int, ...] = SIZES["tiny"]["channels"]
    strides: tuple[tuple[int, int, int], ...] = SIZES["tiny"]["strides"]
    message_channels: int = SIZES["tiny"]["message_channels"]
    message_levels: int = 3
    absolute_values: bool = True

    def __post_init__(self) -> None:
        """Refuse settings from which no network can be built."""
        if self.spatial_dims not in (2, 3):
            raise ValueError(f"spatial_dims must be 2 or 3; got {self.spatial_dims!r}.")
        if len(self.channels) < 2 or len(self.strides) != len(self.channels):
            raise ValueError(
                "channels and strides must have one entry a level, at least two levels; got "
                f"{len(self.channels)} and {len(self.strides)}."
            )
        if not 1 <= self.message_levels:
            raise ValueError(f"message_levels must be at least 1; got {self.message_levels}.")

    @classmethod
    def of_size(cls, size: str, *, spatial_dims: int = 3) -> NetworkSettings:
        """Settings of a size: `tiny` for a CPU, `base` or `large` for a GPU.

        Raises:
            ValueError: If there is no such size.
        """
        if size not in SIZES:
            raise ValueError(f"size must be one of {', '.join(SIZES)}; got {size!r}.")
        return cls(spatial_dims=spatial_dims, **SIZES[size])

    @property
    def divisor(self) -> tuple[int, ...]:
        """Divisor of which each spatial axis of the input must be a multiple."""
        products = (math.prod(axis) for axis in zip(*self.strides, strict=True))
        return tuple(products)[-self.spatial_dims :]

    @property
    def levels_of_messages(self) -> range:
        """Levels that have messages: the deepest ones."""
        levels = len(self.channels)
        return range(max(0, levels - self.message_levels), levels)

    def to_dict(self) -> dict[str, Any]:
        """Settings as plain values, for JSON and checkpoints."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> NetworkSettings:
        """Settings from the values of `to_dict`; JSON may have turned tuples into lists.

        Raises:
            ValueError: If the values describe a network that this release no longer builds.
        """
        if gone := [key for key in _GONE if values.get(key)]:
            raise ValueError(f"{gone[0]} is no longer part of the network")
        return cls(
            **{
                "absolute_values": False,
                **{key: value for key, value in values.items() if key not in _GONE},
                "channels": tuple(values["channels"]),
                "strides": tuple(tuple(stride) for stride in values["strides"]),
            }
        )
