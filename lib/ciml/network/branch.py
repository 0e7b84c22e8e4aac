"""Decoder input of a subtask: features of its primary modalities plus messages from the others."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from torch import Generator, Tensor, nn

from lib.ciml.decomposition.subtask import Subtask
from lib.ciml.network.message import Message, MessageChannel, summary_of
from lib.ciml.network.settings import NetworkSettings


class Branch(nn.Module):
    """Features of the primary modalities of one subtask, with the messages added to them."""

    def __init__(self, subtask: Subtask, modalities: tuple[str, ...], settings: NetworkSettings) -> None:
        """Build the message channels of a subtask, for inputs whose channels are `modalities`."""
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
        """Primary features after all messages were added, and these messages.

        `summaries` caches the summaries of features across branches, because many messages use the same ones.
        """
        known = {} if summaries is None else summaries
        primary = [self._primary_features(features, present, level) for level in range(len(self.null))]
        received, messages = list(primary), []
        for (name, sender, level), channel in zip(self.senders, self.channels, strict=True):
            if sender not in features or (name, self.subtask.name) in silent:
                continue
            here = present_in(present, sender)
            addition, mu, logvar, attention = channel(
                _summary(primary[level], known),
                features[sender][level],
                _summary(features[sender][level], known),
                generator=generator,
            )
            addition = where_present(here, addition)
            received[level] = received[level] + addition
            messages.append(Message(name, self.subtask.name, level, mu, logvar, attention, addition, here))
        return received, messages

    def _primary_features(
        self, features: Mapping[int, list[Tensor]], present: Tensor | None, level: int
    ) -> Tensor:
        """Mean over the present primary modalities; learned null features if none is present."""
        if present is None or all(present_in(present, channel) is None for channel in self.primary):
            first, *others = (features[channel][level] for channel in self.primary)
            for other in others:  # a mean over stacked features takes longer than a convolution
                first = first + other
            return first / (1 + len(others)) if others else first
        example = next(iter(features.values()))[level]
        total, count = torch.zeros_like(example), present.new_zeros(len(present), dtype=example.dtype)
        for channel in self.primary:
            if channel in features:
                here = present[:, channel]
                total = total + where_present(here, features[channel][level])
                count = count + here
        count = _expand(count, example)
        return torch.where(count > 0, total / count.clamp(min=1), self.null[level].to(example.dtype))


def _summary(features: Tensor, known: dict[Tensor, Tensor]) -> Tensor:
    """Summary of these features, computed once."""
    if features not in known:
        known[features] = summary_of(features)
    return known[features]


def present_in(present: Tensor | None, channel: int) -> Tensor | None:
    """Samples that have a modality, shape (B,), bool; None if every sample has it."""
    return None if present is None or bool(present[:, channel].all()) else present[:, channel]


def _expand(vector: Tensor, like: Tensor) -> Tensor:
    """Vector (B,) reshaped to (B, 1, 1, ...)."""
    return vector.view(-1, *(1,) * (like.ndim - 1))


def where_present(present: Tensor | None, tensor: Tensor) -> Tensor:
    """Tensor with zeros for samples that lack the modality, even where an absent channel holds NaN."""
    return tensor if present is None else torch.where(_expand(present, tensor), tensor, 0.0)
