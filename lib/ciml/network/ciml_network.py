"""CIML network: one encoder per modality, one decoder per subtask, and messages between them.

CIML as reconstructed from its abstract (Shen et al., Neural Networks 180 (2024) 106670). Messages
pass at the bottleneck and the deepest skips; `lib.ciml.network.message` has their equations.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn

from lib.cases.modalities import has_units
from lib.ciml.decomposition.table import Decomposition
from lib.ciml.network.backbone import Decoder, Encoder
from lib.ciml.network.branch import Branch, present_in, where_present
from lib.ciml.network.message import Message
from lib.ciml.network.settings import NetworkSettings

Features = dict[int, list[Tensor]]  # of each modality by its channel, finest level first


@dataclass(frozen=True, eq=False)
class Output:
    """Output of the network for a batch.

    Attributes:
        logits: Logits of each subtask, shape (B, R_s, D, H, W).
        messages: All messages that were sent.
        reliability: Weight of each subtask where several outline the same region, shape (B or 1, S, R), from
            0 to 1; None weighs them alike.
    """

    logits: dict[str, Tensor]
    messages: list[Message]
    reliability: Tensor | None = None


class CimlNetwork(nn.Module):
    """Encoders, messages and decoders for one decomposition.

    The buffer `reliability`, shape (2, S, R), weighs the subtasks that outline the same region: row 1 where
    a primary modality of the subtask is present, row 0 where none is. It is not trained; after a training
    `lib.ciml.training.reliability` sets it.

    An absent modality sends no message. A subtask that lacks all its primary modalities is decoded from
    learned null features (one vector per level) and the messages it receives.

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
        """Build a network for inputs whose channels are `modalities`, in this order.

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
        self.encoders = encoders_of(modalities, self.settings)
        self.branches = nn.ModuleList(
            Branch(subtask, modalities, self.settings) for subtask in decomposition.subtasks
        )
        self.decoders = nn.ModuleList(
            Decoder(
                len(subtask.regions),
                self.settings.channels,
                spatial_dims=self.settings.spatial_dims,
            )
            for subtask in decomposition.subtasks
        )
        alike = torch.ones(2, len(decomposition.subtasks), len(decomposition.regions))
        self.reliability: Tensor
        self.register_buffer("reliability", alike)

    def forward(
        self,
        x: Tensor,
        present: Tensor | None = None,
        *,
        generator: Generator | None = None,
        silent: Collection[tuple[str, str]] = (),
    ) -> Output:
        """Compute the logits of every subtask.

        Args:
            x: Images, shape (B, M, D, H, W) or (B, M, H, W); axes are multiples of `settings.divisor`, and
                larger.
            present: Modalities that each sample has, shape (B, M), bool, at least one per row; None for all,
                which is also the form to export.
            generator: Source of the messages' noise in training.
            silent: Messages (sender, subtask) that are not sent.

        Raises:
            ValueError: If a shape does not fit, or a row has no modality.
        """
        self._check(x, present)
        if present is not None and bool(present.all()):
            present = None  # masks cost a tenth of a step
        features = self.encode(x, present)
        return self.decode(features, present, x.shape[2:], generator=generator, silent=silent)

    def encode(self, x: Tensor, present: Tensor | None = None) -> Features:
        """Features of each modality that a sample has; they do not depend on the other modalities."""
        return {
            channel: encoder(where_present(present_in(present, channel), x[:, channel : channel + 1]))
            for channel, encoder in enumerate(self.encoders)
            if present is None or present[:, channel].any()
        }

    def decode(
        self,
        features: Features,
        present: Tensor | None,
        shape: torch.Size,
        *,
        generator: Generator | None = None,
        silent: Collection[tuple[str, str]] = (),
    ) -> Output:
        """Logits of every subtask from features, whose channels are those that `present` names.

        Args:
            features: Features of `encode`, or some of them.
            present: As for `forward`.
            shape: Spatial size of the images.
            generator: As for `forward`.
            silent: As for `forward`.
        """
        summaries: dict[Tensor, Tensor] = {}
        output = Output({}, [], self.reliability_with(present))
        for subtask, branch, decoder in zip(
            self.decomposition.subtasks, self.branches, self.decoders, strict=True
        ):
            received, messages = branch(
                features, present, generator=generator, silent=silent, summaries=summaries
            )
            output.logits[subtask.name] = decoder(received, shape)
            output.messages.extend(messages)
        return output

    def reliability_with(self, present: Tensor | None) -> Tensor:
        """Weights of the subtasks for samples with these modalities, shape (B or 1, S, R)."""
        if present is None:
            return self.reliability[1:]
        return torch.where(self.led(present)[:, :, None], self.reliability[1], self.reliability[0])

    def led(self, present: Tensor) -> Tensor:
        """Whether a primary modality of each subtask is present in each sample, shape (B, S), bool."""
        primary = [
            [self.modalities.index(name) for name in subtask.primary]
            for subtask in self.decomposition.subtasks
        ]
        return torch.stack([present[:, channels].any(dim=1) for channels in primary], dim=1)

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


def encoders_of(modalities: tuple[str, ...], settings: NetworkSettings) -> nn.ModuleList:
    """One encoder for each modality, in this order."""
    strides = [stride[-settings.spatial_dims :] for stride in settings.strides]
    return nn.ModuleList(
        Encoder(
            settings.channels,
            strides,
            spatial_dims=settings.spatial_dims,
            absolute_values=settings.absolute_values and has_units(name),
        )
        for name in modalities
    )
