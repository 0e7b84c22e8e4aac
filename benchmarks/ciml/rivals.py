"""Networks that CIML is compared with, behind CIML's interface.

`benchmarks.ciml.methods` assigns a network and a width to each method.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Generator, Tensor, nn

from lib.ciml.decomposition.subtask import Subtask
from lib.ciml.decomposition.table import Decomposition
from lib.ciml.network.backbone import Decoder
from lib.ciml.network.branch import Branch, present_in, where_present
from lib.ciml.network.ciml_network import CimlNetwork, Output, encoders_of
from lib.ciml.network.message import Message
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
        self.decomposition = _fused(decomposition, modalities)
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


class Concatenation(CimlNetwork):
    """CIML's branches with F_p' = conv([F_p, F_a, ...]) at the levels where CIML adds messages.

    An absent sender's features are zero; an absent primary's are learned null features, as in CIML.
    """

    def __init__(
        self, decomposition: Decomposition, modalities: tuple[str, ...], settings: NetworkSettings
    ) -> None:
        """Build the network with CIML's encoders and decoders."""
        super().__init__(decomposition, modalities, settings)
        self.branches = nn.ModuleList(
            _Mixing(subtask, modalities, settings) for subtask in decomposition.subtasks
        )


class _Mixing(Branch):
    """One subtask of `Concatenation`; there are no messages, so the loss adds no KL."""

    def __init__(self, subtask: Subtask, modalities: tuple[str, ...], settings: NetworkSettings) -> None:
        super().__init__(replace(subtask, auxiliary=()), modalities, settings)
        self.auxiliary = [modalities.index(name) for name in subtask.auxiliary]
        self.mixing = nn.ModuleDict(
            {
                str(level): nn.Conv3d(
                    (1 + len(self.auxiliary)) * settings.channels[level], settings.channels[level], 1
                )
                for level in settings.levels_of_messages
            }
        )

    def forward(
        self,
        features: Mapping[int, list[Tensor]],
        present: Tensor | None,
        *,
        generator: Generator | None,
        silent: Collection[tuple[str, str]],
        summaries: dict[Tensor, Tensor] | None = None,
    ) -> tuple[list[Tensor], list[Message]]:
        """Primary features, mixed with those of the senders at the levels of CIML's messages."""
        received, _ = super().forward(
            features, present, generator=generator, silent=silent, summaries=summaries
        )
        for level, mixing in self.mixing.items():
            own = received[int(level)]
            senders = [
                where_present(present_in(present, sender), features[sender][int(level)])
                if sender in features
                else torch.zeros_like(own)
                for sender in self.auxiliary
            ]
            received[int(level)] = mixing(torch.cat([own, *senders], dim=1))
        return received, []


class MeanAndVariance(nn.Module):
    """Mean and variance of the present modalities' features at every level, and one decoder.

    After HeMIS (Havaei et al., MICCAI 2016), with CIML's encoders and decoder instead of its plain layers.
    """

    def __init__(
        self, decomposition: Decomposition, modalities: tuple[str, ...], settings: NetworkSettings
    ) -> None:
        """Build the network; one subtask outlines every region."""
        super().__init__()
        self.modalities, self.settings = modalities, settings
        self.decomposition = _fused(decomposition, modalities)
        self.encoders = encoders_of(modalities, settings)
        self.fusion = nn.ModuleList(nn.Conv3d(2 * size, size, 1) for size in settings.channels)
        self.decoder = Decoder(len(decomposition.regions), settings.channels, spatial_dims=3)

    def forward(
        self, x: Tensor, present: Tensor | None = None, *, generator: Generator | None = None
    ) -> Output:
        """Logits of the one subtask; there are no messages."""
        x = _kept(x, present)
        here = torch.ones(x.shape[:2], device=x.device) if present is None else present.float()
        weights = (here / here.sum(dim=1, keepdim=True))[:, :, None, None, None, None]  # (B, M, 1, 1, 1, 1)
        encoded = [encoder(x[:, [channel]]) for channel, encoder in enumerate(self.encoders)]
        fused = []
        for level, fusion in enumerate(self.fusion):
            features = torch.stack([each[level] for each in encoded], dim=1)  # (B, M, C, D, H, W)
            mean = (weights * features).sum(dim=1)
            variance = (weights * (features - mean[:, None]).square()).sum(dim=1)
            fused.append(fusion(torch.cat([mean, variance], dim=1)))
        return Output({"fusion": self.decoder(fused, x.shape[2:])}, [])


def _fused(decomposition: Decomposition, modalities: tuple[str, ...]) -> Decomposition:
    """The same regions, outlined by one subtask from all modalities."""
    regions = tuple(region.name for region in decomposition.regions)
    everything = Subtask("fusion", modalities, (), regions)
    return replace(decomposition, name="fusion", subtasks=(everything,))


def _kept(x: Tensor, present: Tensor | None) -> Tensor:
    """Images with zeros in the channels of absent modalities."""
    return x if present is None else torch.where(present[:, :, None, None, None], x, 0.0)
