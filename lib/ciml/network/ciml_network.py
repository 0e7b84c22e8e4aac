"""The network: one encoder a modality, one decoder a subtask, messages added between them.

CIML as reconstructed from its abstract (Shen et al., Neural Networks 180 (2024) 106670). Messages
pass at the bottleneck and the deepest skips; `lib.ciml.network.message` has their equations.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Generator, Tensor, nn

from lib.ciml.decomposition.subtask import Subtask
from lib.ciml.decomposition.table import Decomposition
from lib.ciml.network.backbone import Decoder, Encoder
from lib.ciml.network.message import Message, MessageChannel, summary_of

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
    """Shape of the network; the defaults are `tiny`, which trains on a laptop's CPU.

    Attributes:
        spatial_dims: 2 or 3.
        channels: Features of each level, the bottleneck last.
        strides: Downsampling into each level along (D, H, W); the first is the stem's. In plane first, as
            slices are thicker than pixels. A 2-D network uses (H, W).
        message_channels: Channels of z.
        message_levels: Messages at the bottleneck and at this many less one of the deepest skips.
        strict_markov: Attention from the sender's features alone, so that z depends on the sender only.
        deep_supervision: A head at each level between the finest and the bottleneck, used in training only.
    """

    spatial_dims: int = 3
    channels: tuple[int, ...] = SIZES["tiny"]["channels"]
    strides: tuple[tuple[int, int, int], ...] = SIZES["tiny"]["strides"]
    message_channels: int = SIZES["tiny"]["message_channels"]
    message_levels: int = 3
    strict_markov: bool = False
    deep_supervision: bool = False

    def __post_init__(self) -> None:
        """Refuse what no network could be built from."""
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
        """`tiny` for a CPU, `base` or `large` for a GPU.

        Raises:
            ValueError: If there is no such size.
        """
        if size not in SIZES:
            raise ValueError(f"size must be one of {', '.join(SIZES)}; got {size!r}.")
        return cls(spatial_dims=spatial_dims, **SIZES[size])

    @property
    def divisor(self) -> tuple[int, ...]:
        """What each spatial axis of the input must be a multiple of."""
        products = (math.prod(axis) for axis in zip(*self.strides, strict=True))
        return tuple(products)[-self.spatial_dims :]

    @property
    def levels_of_messages(self) -> range:
        """The deepest ones."""
        levels = len(self.channels)
        return range(max(0, levels - self.message_levels), levels)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON and checkpoints."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> NetworkSettings:
        """What `to_dict` gave, also after JSON made its tuples lists."""
        return cls(
            **{
                **values,
                "channels": tuple(values["channels"]),
                "strides": tuple(tuple(stride) for stride in values["strides"]),
            }
        )


@dataclass(frozen=True, eq=False)
class Output:
    """What the network says of a batch.

    Attributes:
        logits: Of each subtask, (B, R_s, D, H, W).
        messages: Every message sent.
        deep: In training with deep supervision, logits of each subtask at the coarser levels, finer first.
    """

    logits: dict[str, Tensor]
    messages: list[Message]
    deep: dict[str, list[Tensor]] = field(default_factory=dict)


class CimlNetwork(nn.Module):
    """Encoders, messages and decoders for one decomposition.

    A modality that is absent sends nothing. A subtask that lacks all its primary modalities is decoded from
    learned null features (one vector a level) and the messages it gets.

    Example:
        >>> network = CimlNetwork(decomposition_for(("CT", "PET")), ("CT", "PET"))
        >>> network(torch.zeros(1, 2, 16, 32, 32)).logits["uptake"].shape
        torch.Size([1, 1, 16, 32, 32])
    """

    def __init__(
        self,
        decomposition: Decomposition,
        modalities: tuple[str, ...],
        settings: NetworkSettings | None = None,
    ) -> None:
        """Build for inputs whose channels are `modalities`, in this order.

        Raises:
            ValueError: If the decomposition uses a modality that is not among them.
        """
        super().__init__()
        unknown = set(decomposition.modalities) - set(modalities)
        if unknown or len(set(modalities)) != len(modalities):
            raise ValueError(
                f"modalities must each be named once and include {', '.join(decomposition.modalities)}; "
                f"got {', '.join(modalities)}."
            )
        self.modalities, self.decomposition = modalities, decomposition
        self.settings = settings or NetworkSettings()
        strides = [stride[-self.settings.spatial_dims :] for stride in self.settings.strides]
        self.encoders = nn.ModuleList(
            Encoder(self.settings.channels, strides, spatial_dims=self.settings.spatial_dims)
            for _ in modalities
        )
        self.branches = nn.ModuleList(
            _Branch(subtask, modalities, self.settings) for subtask in decomposition.subtasks
        )
        self.decoders = nn.ModuleList(
            Decoder(
                len(subtask.regions),
                self.settings.channels,
                spatial_dims=self.settings.spatial_dims,
                deep_supervision=self.settings.deep_supervision,
            )
            for subtask in decomposition.subtasks
        )

    def forward(
        self,
        x: Tensor,
        present: Tensor | None = None,
        *,
        generator: Generator | None = None,
        silent: Collection[tuple[str, str]] = (),
    ) -> Output:
        """Outline every subtask's regions.

        Args:
            x: (B, M, D, H, W), or (B, M, H, W); axes multiples of `settings.divisor`, and larger.
            present: (B, M) bool, at least one a row; all when None, which is also the form to export.
            generator: Source of the messages' noise in training.
            silent: (sender, subtask) of messages that are not to be sent.

        Raises:
            ValueError: If a shape does not fit, or a row has no modality.
        """
        self._check(x, present)
        if present is not None and bool(present.all()):
            present = None  # masks cost a tenth of a step
        features = {
            channel: encoder(_where(_of(present, channel), x[:, channel : channel + 1]))
            for channel, encoder in enumerate(self.encoders)
            if present is None or present[:, channel].any()
        }
        summaries: dict[Tensor, Tensor] = {}
        output = Output({}, [])
        for subtask, branch, decoder in zip(
            self.decomposition.subtasks, self.branches, self.decoders, strict=True
        ):
            received, messages = branch(
                features, present, generator=generator, silent=silent, summaries=summaries
            )
            output.logits[subtask.name], output.deep[subtask.name] = decoder(received, x.shape[2:])
            output.messages.extend(messages)
        return output

    def _check(self, x: Tensor, present: Tensor | None) -> None:
        axes, divisor = tuple(x.shape[2:]), self.settings.divisor
        if x.ndim != self.settings.spatial_dims + 2 or x.shape[1] != len(self.modalities):
            raise ValueError(
                f"x must be (B, {len(self.modalities)}, {self.settings.spatial_dims} spatial axes); "
                f"got {tuple(x.shape)}."
            )
        if any(size % step for size, step in zip(axes, divisor, strict=True)) or axes == divisor:
            raise ValueError(
                f"spatial axes must be multiples of {divisor}, and larger; got {axes}. Pad them."
            )
        if present is not None and (present.shape != x.shape[:2] or not present.any(dim=1).all()):
            raise ValueError(
                f"present must be {tuple(x.shape[:2])} with at least one modality a row; "
                f"got {present.tolist()}."
            )


class _Branch(nn.Module):
    """What one subtask is decoded from: its primary features and the messages to them."""

    def __init__(self, subtask: Subtask, modalities: tuple[str, ...], settings: NetworkSettings) -> None:
        super().__init__()
        self.subtask = subtask
        self.primary = [modalities.index(name) for name in subtask.primary]
        self.senders = [
            (name, modalities.index(name), level)
            for name in subtask.auxiliary
            for level in settings.levels_of_messages
        ]
        self.channels = nn.ModuleList(
            MessageChannel(
                settings.channels[level],
                settings.message_channels,
                spatial_dims=settings.spatial_dims,
                strict_markov=settings.strict_markov,
            )
            for _, _, level in self.senders
        )
        ones = (1,) * settings.spatial_dims
        self.null = nn.ParameterList(nn.Parameter(torch.zeros(1, size, *ones)) for size in settings.channels)

    def forward(
        self,
        features: Mapping[int, list[Tensor]],
        present: Tensor | None,
        *,
        generator: Generator | None,
        silent: Collection[tuple[str, str]],
        summaries: dict[Tensor, Tensor] | None = None,
    ) -> tuple[list[Tensor], list[Message]]:
        """The primary's features with what was added to them, and the messages that added it.

        `summaries` takes those of the features, from branch to branch: many messages look at the same.
        """
        known = {} if summaries is None else summaries
        primary = [self._primary_features(features, present, level) for level in range(len(self.null))]
        received, messages = list(primary), []
        for (name, sender, level), channel in zip(self.senders, self.channels, strict=True):
            if sender not in features or (name, self.subtask.name) in silent:
                continue
            here = _of(present, sender)
            addition, mu, logvar, attention = channel(
                _summary(primary[level], known),
                features[sender][level],
                _summary(features[sender][level], known),
                generator=generator,
            )
            addition = _where(here, addition)
            received[level] = received[level] + addition
            messages.append(Message(name, self.subtask.name, level, mu, logvar, attention, addition, here))
        return received, messages

    def _primary_features(
        self, features: Mapping[int, list[Tensor]], present: Tensor | None, level: int
    ) -> Tensor:
        """Mean over the primary modalities that are present; the learned null features where none is."""
        if present is None or all(_of(present, channel) is None for channel in self.primary):
            complete = [features[channel][level] for channel in self.primary]
            return complete[0] if len(complete) == 1 else torch.stack(complete).mean(dim=0)
        example = next(iter(features.values()))[level]
        total, count = torch.zeros_like(example), present.new_zeros(len(present), dtype=example.dtype)
        for channel in self.primary:
            if channel in features:
                here = present[:, channel]
                total = total + _where(here, features[channel][level])
                count = count + here
        count = _expand(count, example)
        return torch.where(count > 0, total / count.clamp(min=1), self.null[level].to(example.dtype))


def _summary(features: Tensor, known: dict[Tensor, Tensor]) -> Tensor:
    """`summary_of` these very features, computed once."""
    if features not in known:
        known[features] = summary_of(features)
    return known[features]


def _of(present: Tensor | None, channel: int) -> Tensor | None:
    """(B,) bool of one modality; None if every sample has it."""
    return None if present is None or bool(present[:, channel].all()) else present[:, channel]


def _expand(vector: Tensor, like: Tensor) -> Tensor:
    """(B,) as (B, 1, 1, ...)."""
    return vector.view(-1, *(1,) * (like.ndim - 1))


def _where(present: Tensor | None, tensor: Tensor) -> Tensor:
    """The tensor where the sample has the modality, zero elsewhere, whatever an absent channel holds."""
    return tensor if present is None else torch.where(_expand(present, tensor), tensor, 0.0)
