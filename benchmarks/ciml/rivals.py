"""Networks that CIML is compared with, behind CIML's interface.

`benchmarks.ciml.methods` assigns a network and a width to each method.
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
    """The settings of a network that training and inference read."""

    divisor: tuple[int, ...]
    spatial_dims: int = 3


class EarlyFusion(nn.Module):
    """Modalities as channels of one network; the channel of an absent modality is filled with zeros."""

    def __init__(
        self,
        body: nn.Module,
        decomposition: Decomposition,
        modalities: tuple[str, ...],
        *,
        divisor: tuple[int, ...],
    ) -> None:
        """Wrap a network that maps (B, M, D, H, W) to the logits of every region."""
        super().__init__()
        self.body, self.modalities = body, modalities
        regions = tuple(region.name for region in decomposition.regions)
        everything = Subtask("fusion", modalities, (), regions)
        self.decomposition = replace(decomposition, name="fusion", subtasks=(everything,))
        self.settings = Shape(divisor)

    def forward(
        self, x: Tensor, present: Tensor | None = None, *, generator: Generator | None = None
    ) -> Output:
        """Logits of the one subtask that outlines every region; there are no messages."""
        return Output({"fusion": self.body(_kept(x, present))}, [])


class Slices(nn.Module):
    """A 2-D network applied to each slice of a volume separately."""

    def __init__(self, body: nn.Module) -> None:
        """Wrap a network that maps (B, M, H, W) to (B, R, H, W)."""
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        """Logits of shape (B, R, D, H, W) for volumes of shape (B, M, D, H, W)."""
        batch, _, depth = x.shape[:3]
        slices: Tensor = self.body(x.transpose(1, 2).flatten(0, 1))
        return slices.reshape(batch, depth, *slices.shape[1:]).transpose(1, 2)


class OneModality(nn.Module):
    """A branch that sees one modality of several; modality dropout has no effect on it."""

    def __init__(self, branch: CimlNetwork, modalities: tuple[str, ...]) -> None:
        """Wrap a network of one modality so that it accepts the channels of all modalities."""
        super().__init__()
        self.branch, self.modalities = branch, modalities
        self.decomposition, self.settings = branch.decomposition, branch.settings
        self.channel = modalities.index(branch.modalities[0])

    def forward(
        self, x: Tensor, present: Tensor | None = None, *, generator: Generator | None = None
    ) -> Output:
        """Logits of the branch, whichever modalities are present."""
        output: Output = self.branch(x[:, self.channel : self.channel + 1])
        return output


class Concatenation(nn.Module):
    """CIML's branches with F_p' = conv([F_p, F_a, ...]) at the levels where CIML adds messages.

    An absent sender's features are zero; an absent primary's are learned null features, as in CIML.
    """

    def __init__(
        self, decomposition: Decomposition, modalities: tuple[str, ...], settings: NetworkSettings
    ) -> None:
        """Build the network; each subtask must have one primary modality."""
        super().__init__()
        self.modalities, self.decomposition, self.settings = modalities, decomposition, settings
        self.encoders = nn.ModuleDict(
            {name: Encoder(settings.channels, settings.strides, spatial_dims=3) for name in modalities}
        )
        self.branches = nn.ModuleList(_Mixing(subtask, settings) for subtask in decomposition.subtasks)

    def forward(
        self, x: Tensor, present: Tensor | None = None, *, generator: Generator | None = None
    ) -> Output:
        """Logits of every subtask; there are no messages, so the loss adds no KL."""
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
        self.plain = len(channels) - settings.message_levels  # the finest levels carry no messages
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
    """Images with zeros in the channels of absent modalities."""
    return x if present is None else torch.where(present[:, :, None, None, None], x, 0.0)
