"""Networks that CIML is compared with, behind the interface that it has.

`benchmarks.ciml.methods` says which of them, and how wide, stands for which method.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Generator, Tensor, nn

from lib.ciml.decomposition.subtask import Subtask
from lib.ciml.decomposition.table import Decomposition
from lib.ciml.network.backbone import Decoder, Encoder
from lib.ciml.network.ciml_network import CimlNetwork, Output
from lib.ciml.network.settings import NetworkSettings


@dataclass(frozen=True)
class Shape:
    """What training and inference ask of a network's settings."""

    divisor: tuple[int, ...]
    spatial_dims: int = 3


class EarlyFusion(nn.Module):
    """Modalities as channels of one network; an absent one is filled with zeros."""

    def __init__(
        self,
        body: nn.Module,
        decomposition: Decomposition,
        modalities: tuple[str, ...],
        *,
        divisor: tuple[int, ...],
    ) -> None:
        """Take a network from (B, M, D, H, W) to the logits of every region."""
        super().__init__()
        self.body, self.modalities = body, modalities
        regions = tuple(region.name for region in decomposition.regions)
        everything = Subtask("fusion", modalities, (), regions)
        self.decomposition = replace(decomposition, name="fusion", subtasks=(everything,))
        self.settings = Shape(divisor)

    def forward(
        self, x: Tensor, present: Tensor | None = None, *, generator: Generator | None = None
    ) -> Output:
        """Logits of one subtask that outlines all; no message."""
        return Output({"fusion": self.body(_kept(x, present))}, [])


class Slices(nn.Module):
    """A 2-D network on the slices of volumes, each for itself."""

    def __init__(self, body: nn.Module) -> None:
        """Take a network from (B, M, H, W) to (B, R, H, W)."""
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        """(B, R, D, H, W) of (B, M, D, H, W)."""
        batch, _, depth = x.shape[:3]
        slices: Tensor = self.body(x.transpose(1, 2).flatten(0, 1))
        return slices.reshape(batch, depth, *slices.shape[1:]).transpose(1, 2)


class OneModality(nn.Module):
    """A branch that sees one modality of several; dropping modalities does not concern it."""

    def __init__(self, branch: CimlNetwork, modalities: tuple[str, ...]) -> None:
        """Take a network of one modality into company."""
        super().__init__()
        self.branch, self.modalities = branch, modalities
        self.decomposition, self.settings = branch.decomposition, branch.settings
        self.channel = modalities.index(branch.modalities[0])

    def forward(
        self, x: Tensor, present: Tensor | None = None, *, generator: Generator | None = None
    ) -> Output:
        """Logits of the branch, whatever else is present."""
        output: Output = self.branch(x[:, self.channel : self.channel + 1])
        return output


class Concatenation(nn.Module):
    """CIML's branches with F_p' = conv([F_p, F_a, ...]) at the levels where CIML adds messages.

    An absent sender's features are zero; an absent primary's are learned null features, as in CIML.
    """

    def __init__(
        self, decomposition: Decomposition, modalities: tuple[str, ...], settings: NetworkSettings
    ) -> None:
        """Build for subtasks with one primary modality each."""
        super().__init__()
        self.modalities, self.decomposition, self.settings = modalities, decomposition, settings
        self.encoders = nn.ModuleDict(
            {name: Encoder(settings.channels, settings.strides, spatial_dims=3) for name in modalities}
        )
        self.branches = nn.ModuleList(_Mixing(subtask, settings) for subtask in decomposition.subtasks)

    def forward(
        self, x: Tensor, present: Tensor | None = None, *, generator: Generator | None = None
    ) -> Output:
        """Logits of every subtask; nothing that would be priced is sent."""
        present = torch.ones(x.shape[:2], dtype=torch.bool, device=x.device) if present is None else present
        x = _kept(x, present)
        here = {
            name: present[:, channel].view(-1, 1, 1, 1, 1) for channel, name in enumerate(self.modalities)
        }
        features = {
            name: self.encoders[name](x[:, channel : channel + 1])
            for channel, name in enumerate(self.modalities)
        }
        output = Output({}, [])
        for subtask, branch in zip(self.decomposition.subtasks, self.branches, strict=True):
            output.logits[subtask.name] = branch(features, here, x.shape[2:])
        return output


class _Mixing(nn.Module):
    """One subtask of `Concatenation`."""

    def __init__(self, subtask: Subtask, settings: NetworkSettings) -> None:
        super().__init__()
        self.subtask, channels = subtask, settings.channels
        self.null = nn.ParameterList(nn.Parameter(torch.zeros(1, size, 1, 1, 1)) for size in channels)
        self.plain = len(channels) - settings.message_levels  # levels without messages, the finest ones
        sources = 1 + len(subtask.auxiliary)
        self.mixing = nn.ModuleList(nn.Conv3d(sources * size, size, 1) for size in channels[self.plain :])
        self.decoder = Decoder(len(subtask.regions), channels, spatial_dims=3)

    def forward(
        self, features: Mapping[str, list[Tensor]], here: Mapping[str, Tensor], shape: torch.Size
    ) -> Tensor:
        (lead,), mixed = self.subtask.primary, []
        for level, null in enumerate(self.null):
            own = features[lead][level]
            primary = torch.where(here[lead], own, null.to(own.dtype))
            if level >= self.plain:
                senders = [
                    torch.where(here[name], features[name][level], 0.0) for name in self.subtask.auxiliary
                ]
                primary = self.mixing[level - self.plain](torch.cat([primary, *senders], dim=1))
            mixed.append(primary)
        logits: Tensor = self.decoder(mixed, shape)
        return logits


def _kept(x: Tensor, present: Tensor | None) -> Tensor:
    """Zero where a modality is absent, whatever its channel holds."""
    return x if present is None else torch.where(present[:, :, None, None, None], x, 0.0)
