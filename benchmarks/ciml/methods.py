"""Networks that CIML is compared with; all have about as many parameters as CIML.

The methods, each for any modalities and regions:

- `ciml`: CIML as reconstructed from its abstract. `ciml_beta0` is the same with messages that cost nothing.
- `unimodal`: CIML's branches without messages.
- `concatenation`: CIML's encoders and decoders. Where CIML adds messages, this network concatenates the
  features of the primary and of the senders and applies a 1x1 convolution. There is no noise, no attention
  and no price.
- `wrong_primary`: CIML with the roles exchanged: each subtask is led by its auxiliary modalities. Where every
  modality leads the same regions, exchanging changes little; there it is one subtask, led by CT, on which a
  soft-tissue sarcoma has nearly the density of muscle, and `right_primary` differs only in the primary: PET,
  or MR without PET.
- `hemis`: one encoder a modality; at every level the mean and the variance of the features over the present
  modalities are concatenated and go through a 1x1 convolution to one decoder (after Havaei et al., HeMIS,
  MICCAI 2016).
- `segresnet`, `dynunet`: MONAI's networks with early fusion: modalities are channels, and the channel of an
  absent modality is filled with zeros.
- `only_CT` and so on: one branch that sees one modality.

Every network except CIML's is made wider or narrower until its number of parameters is within a tenth of
CIML's. `unet_2d` is for comparisons of anything other than networks: MONAI's UNet on slices with early
fusion, at its own width. It trains in half a minute on one core.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from monai.networks.nets.dynunet import DynUNet
from monai.networks.nets.segresnet import SegResNet
from monai.networks.nets.unet import UNet
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.ciml.rivals import Concatenation, EarlyFusion, MeanAndVariance, OneModality, Slices
from lib.cases.modalities import kind
from lib.ciml.decomposition.subtask import Subtask
from lib.ciml.decomposition.table import Decomposition
from lib.ciml.network.ciml_network import CimlNetwork
from lib.ciml.network.settings import NetworkSettings

METHODS = (
    "ciml",
    "segresnet",
    "dynunet",
    "unimodal",
    "ciml_beta0",
    "concatenation",
    "wrong_primary",
    "hemis",
)
RIGHT = "right_primary"  # where every modality leads the same regions
ONLY = "only_"
SLICES, SLICE_CHANNELS = "unet_2d", (16, 32, 64, 64)
TOLERANCE = 0.1  # share of CIML's number of parameters
WIDTHS = np.linspace(0.5, 3.0, 251)  # multiples of CIML's width
Builder = Callable[[], nn.Module]


def methods(decomposition: Decomposition) -> tuple[str, ...]:
    """Names of all methods for a task; `only_CT` and so on see one modality only."""
    right = (RIGHT,) if _leads_alone(decomposition) else ()
    return (*METHODS, *right, *(ONLY + name for name in decomposition.modalities))


def build(
    method: str,
    decomposition: Decomposition,
    modalities: tuple[str, ...],
    settings: NetworkSettings,
    *,
    seed: int,
) -> Any:
    """Untrained network of a method, with CIML's number of parameters to within a tenth.

    Args:
        method: One of `methods(decomposition)`, or `unet_2d`.
        decomposition: CIML's decomposition; the other networks outline the same regions.
        modalities: Channels of the input.
        settings: Settings of CIML; all networks but `unet_2d` take their depth and strides from them.
        seed: Seed of the initial weights.

    Raises:
        ValueError: If there is no such method, or no width comes near enough.
    """
    known = (*methods(decomposition), SLICES)
    if method not in known:
        raise ValueError(f"method must be one of {', '.join(known)}; got {method!r}.")
    torch.manual_seed(seed)
    if method == SLICES:
        return _unet_2d(decomposition, modalities)
    task = Task(decomposition, modalities, settings)
    target = _count(partial(CimlNetwork, decomposition, modalities, settings))
    found, builder = min(_near(method, task, target), key=lambda each: abs(each[0] - target))
    if abs(found - target) > TOLERANCE * target:
        raise ValueError(
            f"{method} must have {target} parameters to within {TOLERANCE:.0%}; the nearest has {found}. "
            "Widen the search in benchmarks/ciml/methods.py."
        )
    return builder()


def parameters(network: nn.Module) -> int:
    """Number of weights."""
    return sum(weights.numel() for weights in network.parameters())


def multiply_accumulates(network: Any, roi_size: tuple[int, ...]) -> int:
    """Multiply-accumulates of the convolutions in one forward pass of one patch with every modality."""
    counter = FlopCounterMode(display=False)
    training = network.training
    with torch.inference_mode(), counter:
        network.eval()(torch.zeros(1, len(network.modalities), *roi_size))
    network.train(training)
    return int(counter.get_total_flops()) // 2


@dataclass(frozen=True)
class Task:
    """What every network is built for: the regions, the channels, and CIML's settings."""

    decomposition: Decomposition
    modalities: tuple[str, ...]
    settings: NetworkSettings

    @property
    def regions(self) -> int:
        """Number of regions."""
        return len(self.decomposition.regions)

    def widths(self) -> list[NetworkSettings]:
        """CIML's settings at every width."""
        sizes = self.settings.channels
        shapes = dict.fromkeys(tuple(round(size * width) for size in sizes) for width in WIDTHS)
        return [replace(self.settings, channels=channels) for channels in shapes]


def wrong_and_right(decomposition: Decomposition) -> tuple[Decomposition, Decomposition]:
    """The decomposition with the wrong primaries, and the one that it is to be compared with."""
    if _leads_alone(decomposition):
        wrong, right = wrong_and_right_lead(decomposition.modalities)
        return led_by(wrong, decomposition), led_by(right, decomposition)
    exchanged = tuple(
        replace(task, primary=task.auxiliary, auxiliary=task.primary) for task in decomposition.subtasks
    )
    return replace(decomposition, name="exchanged primaries", subtasks=exchanged), decomposition


def led_by(lead: str, decomposition: Decomposition) -> Decomposition:
    """One subtask with this primary; every other modality is a sender."""
    others = tuple(name for name in decomposition.modalities if name != lead)
    regions = tuple(region.name for region in decomposition.regions)
    return replace(decomposition, name=f"led by {lead}", subtasks=(Subtask(lead, (lead,), others, regions),))


def wrong_and_right_lead(modalities: Sequence[str]) -> tuple[str, str]:
    """CT, then PET or MR.

    Raises:
        ValueError: If there is no CT, or neither PET nor MR.
    """
    by_kind = {kind(name): name for name in modalities}
    right = by_kind.get("PET", by_kind.get("MR"))
    if "CT" not in by_kind or right is None:
        raise ValueError(f"modalities must include CT and PET or MR; got {', '.join(modalities)}.")
    return by_kind["CT"], right


def _leads_alone(decomposition: Decomposition) -> bool:
    """Whether each modality leads a subtask of its own for the same regions."""
    return all(
        len(task.primary) == 1 and set(task.regions) == {region.name for region in decomposition.regions}
        for task in decomposition.subtasks
    )


def _near(method: str, task: Task, target: int) -> Iterator[tuple[int, Builder]]:
    """The two networks on each ladder of widths whose numbers of parameters enclose the target."""
    for ladder in _ladders(method, task):
        place = bisect_left(range(len(ladder)), target, key=lambda step: _count(ladder[step]))
        for candidate in ladder[max(0, place - 1) : place + 1]:
            yield _count(candidate), candidate


def _ladders(method: str, task: Task) -> list[list[Builder]]:
    """Builders of a method's network, each ladder from narrow to wide."""
    whole, modalities = task.decomposition, task.modalities
    if method in ("ciml", "ciml_beta0"):
        return [[partial(CimlNetwork, whole, modalities, task.settings)]]
    if method == "segresnet":  # MONAI's default blocks, and the same without the deepest level
        return [
            [partial(_segresnet, blocks, filters, task) for filters in range(4, 65)]
            for blocks in ((1, 2, 2), (1, 2, 2, 4))
        ]
    if method == "dynunet":
        return [[partial(_dynunet, width, task) for width in task.widths()]]
    if method == "unimodal":
        whole = replace(whole, subtasks=tuple(replace(each, auxiliary=()) for each in whole.subtasks))
    elif method in ("wrong_primary", RIGHT):
        whole = wrong_and_right(whole)[method == RIGHT]
    elif method.startswith(ONLY):
        return [[partial(_one_modality, method.removeprefix(ONLY), task, width) for width in task.widths()]]
    network = {"concatenation": Concatenation, "hemis": MeanAndVariance}.get(method, CimlNetwork)
    return [[partial(network, whole, modalities, width) for width in task.widths()]]


def _segresnet(blocks: tuple[int, ...], filters: int, task: Task) -> EarlyFusion:
    body = SegResNet(
        spatial_dims=3,
        init_filters=filters,
        in_channels=len(task.modalities),
        out_channels=task.regions,
        norm=("GROUP", {"num_groups": 8 if filters % 8 == 0 else filters}),
        blocks_down=blocks,
        blocks_up=(1,) * (len(blocks) - 1),
    )
    divisor = (2 ** (len(blocks) - 1),) * 3
    return EarlyFusion(body, task.decomposition, task.modalities, divisor=divisor)


def _dynunet(width: NetworkSettings, task: Task) -> EarlyFusion:
    """DynUNet with CIML's levels and the one more at full resolution that this network has."""
    body = DynUNet(
        spatial_dims=3,
        in_channels=len(task.modalities),
        out_channels=task.regions,
        kernel_size=[3] * (len(width.channels) + 1),
        strides=[1, *width.strides],
        upsample_kernel_size=list(width.strides),
        filters=[*width.channels, 2 * width.channels[-1]],
    )
    return EarlyFusion(body, task.decomposition, task.modalities, divisor=task.settings.divisor)


def _unet_2d(decomposition: Decomposition, modalities: tuple[str, ...]) -> EarlyFusion:
    strides = (2,) * (len(SLICE_CHANNELS) - 1)
    body = UNet(2, len(modalities), len(decomposition.regions), SLICE_CHANNELS, strides)
    return EarlyFusion(Slices(body), decomposition, modalities, divisor=(1, *(2 ** len(strides),) * 2))


def _one_modality(name: str, task: Task, width: NetworkSettings) -> OneModality:
    alone = led_by(name, task.decomposition)
    alone = replace(alone, subtasks=tuple(replace(each, auxiliary=()) for each in alone.subtasks))
    return OneModality(CimlNetwork(alone, (name,), width), task.modalities)


def _count(build_one: Builder) -> int:
    """Number of parameters of a network, built without memory for its weights."""
    with torch.device("meta"):
        return parameters(build_one())
