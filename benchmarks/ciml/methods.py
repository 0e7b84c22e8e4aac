"""Networks that CIML is compared with; all have about as many parameters as CIML.

The methods, each for any set of modalities and one lesion:

- `ciml`: CIML as reconstructed from its abstract. `ciml_beta0` is the same with messages that cost nothing.
- `unimodal`: CIML's branches without messages, averaged.
- `concatenation`: CIML's encoders and decoders. Where CIML adds messages, this network concatenates the
  features of the primary and of the senders and applies a 1x1 convolution. There is no noise, no attention
  and no price.
- `wrong_primary`: one subtask, led by CT, on which a soft-tissue sarcoma has nearly the density of muscle;
  the other modalities send messages. `right_primary` differs only in the primary: PET, or MR without PET.
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
from dataclasses import replace
from functools import cache, partial
from typing import Any

import numpy as np
import torch
from monai.networks.nets.dynunet import DynUNet
from monai.networks.nets.segresnet import SegResNet
from monai.networks.nets.unet import UNet
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.ciml.rivals import Concatenation, EarlyFusion, OneModality, Slices
from lib.cases.modalities import kind
from lib.ciml.decomposition.subtask import Subtask
from lib.ciml.decomposition.table import Decomposition, decomposition_for
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
    "right_primary",
)
ONLY = "only_"
SLICES, SLICE_CHANNELS = "unet_2d", (16, 32, 64, 64)
TOLERANCE = 0.1  # share of CIML's number of parameters
WIDTHS = np.linspace(0.5, 3.0, 251)  # multiples of CIML's width
Builder = Callable[[], nn.Module]


def methods(modalities: Sequence[str], *, alone: bool = False) -> tuple[str, ...]:
    """Names of the methods for these modalities; `alone` adds the methods that see one modality only."""
    return (*METHODS, *(ONLY + name for name in modalities)) if alone else METHODS


def build(method: str, modalities: tuple[str, ...], settings: NetworkSettings, *, seed: int) -> Any:
    """Untrained network of a method, with CIML's number of parameters to within a tenth.

    Args:
        method: One of `methods(modalities, alone=True)`, or `unet_2d`.
        modalities: Channels of the input.
        settings: Settings of CIML; all networks but `unet_2d` take their depth and strides from them.
        seed: Seed of the initial weights.

    Raises:
        ValueError: If there is no such method, or no width comes near enough.
    """
    known = (*methods(modalities, alone=True), SLICES)
    if method not in known:
        raise ValueError(f"method must be one of {', '.join(known)}; got {method!r}.")
    torch.manual_seed(seed)
    if method == SLICES:
        return _unet_2d(modalities)
    return _nearest(method, modalities, settings)()


@cache
def _nearest(method: str, modalities: tuple[str, ...], settings: NetworkSettings) -> Builder:
    """Builder of the network whose number of parameters is nearest to CIML's."""
    target = _count(partial(CimlNetwork, _lesion(modalities), modalities, settings))
    found, builder = min(_near(method, modalities, settings, target), key=lambda each: abs(each[0] - target))
    if abs(found - target) > TOLERANCE * target:
        raise ValueError(
            f"{method} must have {target} parameters to within {TOLERANCE:.0%}; the nearest has {found}. "
            "Widen the search in benchmarks/ciml/methods.py."
        )
    return builder


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


def led_by(lead: str, modalities: tuple[str, ...]) -> Decomposition:
    """One subtask with this primary; every other modality is a sender."""
    others = tuple(name for name in modalities if name != lead)
    whole = _lesion(modalities)
    regions = tuple(region.name for region in whole.regions)
    return replace(whole, name=f"led by {lead}", subtasks=(Subtask(lead, (lead,), others, regions),))


def wrong_and_right_lead(modalities: tuple[str, ...]) -> tuple[str, str]:
    """CT, and the modality on which the tumour stands out: PET, else MR.

    Raises:
        ValueError: If CT is missing, or both PET and MR are.
    """
    by_kind = {kind(name): name for name in modalities}
    right = by_kind.get("PET", by_kind.get("MR"))
    if "CT" not in by_kind or right is None:
        raise ValueError(f"modalities must include CT and PET or MR; got {', '.join(modalities)}.")
    return by_kind["CT"], right


def _near(
    method: str, modalities: tuple[str, ...], settings: NetworkSettings, target: int
) -> Iterator[tuple[int, Builder]]:
    """The two networks on each ladder of widths whose numbers of parameters enclose the target."""
    for ladder in _ladders(method, modalities, settings):
        place = bisect_left(range(len(ladder)), target, key=lambda step: _count(ladder[step]))
        for candidate in ladder[max(0, place - 1) : place + 1]:
            yield _count(candidate), candidate


def _ladders(method: str, modalities: tuple[str, ...], settings: NetworkSettings) -> list[list[Builder]]:
    """Builders of a method's network, each ladder from narrow to wide."""
    whole = _lesion(modalities)
    if method in ("ciml", "ciml_beta0"):
        return [[partial(CimlNetwork, whole, modalities, settings)]]
    if method == "segresnet":  # MONAI's default blocks, and the same without the deepest level
        return [
            [partial(_segresnet, blocks, filters, modalities) for filters in range(4, 65)]
            for blocks in ((1, 2, 2), (1, 2, 2, 4))
        ]
    widths = _widths(settings)
    if method == "dynunet":
        return [[partial(_dynunet, width, modalities, settings.divisor) for width in widths]]
    if method == "concatenation":
        return [[partial(Concatenation, whole, modalities, width) for width in widths]]
    if method == "unimodal":
        apart = replace(whole, subtasks=tuple(replace(task, auxiliary=()) for task in whole.subtasks))
        return [[partial(CimlNetwork, apart, modalities, width) for width in widths]]
    if method in ("wrong_primary", "right_primary"):
        lead = wrong_and_right_lead(modalities)[method == "right_primary"]
        return [[partial(CimlNetwork, led_by(lead, modalities), modalities, width) for width in widths]]
    only = method.removeprefix(ONLY)
    return [[partial(_one_modality, only, modalities, width) for width in widths]]


def _widths(settings: NetworkSettings) -> list[NetworkSettings]:
    """CIML's settings at every width."""
    shapes = dict.fromkeys(tuple(round(size * width) for size in settings.channels) for width in WIDTHS)
    return [replace(settings, channels=channels) for channels in shapes]


def _segresnet(blocks: tuple[int, ...], filters: int, modalities: tuple[str, ...]) -> EarlyFusion:
    decomposition = _lesion(modalities)
    body = SegResNet(
        spatial_dims=3,
        init_filters=filters,
        in_channels=len(modalities),
        out_channels=len(decomposition.regions),
        norm=("GROUP", {"num_groups": 8 if filters % 8 == 0 else filters}),
        blocks_down=blocks,
        blocks_up=(1,) * (len(blocks) - 1),
    )
    return EarlyFusion(body, decomposition, modalities, divisor=(2 ** (len(blocks) - 1),) * 3)


def _dynunet(width: NetworkSettings, modalities: tuple[str, ...], divisor: tuple[int, ...]) -> EarlyFusion:
    """DynUNet with CIML's levels and the one more at full resolution that this network has."""
    decomposition = _lesion(modalities)
    body = DynUNet(
        spatial_dims=3,
        in_channels=len(modalities),
        out_channels=len(decomposition.regions),
        kernel_size=[3] * (len(width.channels) + 1),
        strides=[1, *width.strides],
        upsample_kernel_size=list(width.strides),
        filters=[*width.channels, 2 * width.channels[-1]],
    )
    return EarlyFusion(body, decomposition, modalities, divisor=divisor)


def _unet_2d(modalities: tuple[str, ...]) -> EarlyFusion:
    decomposition, strides = _lesion(modalities), (2,) * (len(SLICE_CHANNELS) - 1)
    body = UNet(2, len(modalities), len(decomposition.regions), SLICE_CHANNELS, strides)
    return EarlyFusion(Slices(body), decomposition, modalities, divisor=(1, *(2 ** len(strides),) * 2))


def _one_modality(name: str, modalities: tuple[str, ...], width: NetworkSettings) -> OneModality:
    return OneModality(CimlNetwork(_lesion((name,)), (name,), width), modalities)


def _lesion(modalities: tuple[str, ...]) -> Decomposition:
    return decomposition_for(modalities, labels=("lesion",))


def _count(build_one: Builder) -> int:
    """Number of parameters of a network, built without memory for its weights."""
    with torch.device("meta"):
        return parameters(build_one())
