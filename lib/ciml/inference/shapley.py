"""How much of an outline each modality accounts for: Shapley values, exact over all choices of modalities.

    phi(m) = sum over S without m of |S|! (n - |S| - 1)! / n! * (v(S + m) - v(S))        (Shapley, 1953)

v(S) is the Dice of what the network outlines from the modalities S alone with its outline from all of them,
averaged over the outlined regions; 0 without a modality. So the values sum to v(all), and they say what the
outline would lose, not whether it is right.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from math import factorial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lib.cases.boxes import Box
from lib.cases.preprocessing import PreparedCase
from lib.ciml.inference.predict import body_box, in_use, region_probabilities
from lib.ciml.inference.windows import attempts, padded_to, whole_window
from lib.ciml.network.ciml_network import CimlNetwork
from lib.ciml.network.precision import autocast, precision_for
from lib.ciml.network.tuning import laid_out

SHARE = 2.4  # voxels of all choices over those of the body's box; a choice is decoded in half a pass

Choice = tuple[int, ...]  # channels of the modalities, ascending


def shapley_of(
    network: CimlNetwork,
    prepared: PreparedCase,
    outlined: NDArray[np.bool_],
    *,
    device: torch.device | str = "cpu",
) -> dict[str, float]:
    """Shapley value of each modality that the case has; empty if nothing is outlined.

    Every modality is encoded once, and each choice is decoded from these features. Where all
    slices would take longer than two segmentations, those that hold most of the outline are used.

    Args:
        network: 3-D network on any device; its mode is restored afterwards.
        prepared: Case.
        outlined: What the network outlines from all modalities, shape (R, D, H, W).
        device: Device to compute on.
    """
    channels = [number for number, there in enumerate(prepared.present) if there]
    if not outlined.any():
        return {}
    device = torch.device(device)
    precision = precision_for(device)
    box = body_box(np.asarray(prepared.foreground))
    most = next(attempts(network, device, precision)).max_voxels
    box = _slices_with_most(box, outlined, most, choices=2 ** len(channels) - 1)
    masks = torch.from_numpy(np.ascontiguousarray(outlined[(slice(None), *box)])).to(device)
    x = torch.from_numpy(np.array(prepared.array[(slice(None), *box)], dtype=np.float32))[None].to(device)
    with in_use(network.to(device)), torch.inference_mode(), autocast(device, precision):
        x = padded_to(x, whole_window(tuple(x.shape[2:]), network.settings.divisor))
        agreement = _agreements(network, laid_out(x, network, precision), masks, channels)
    return {network.modalities[channel]: value_of(channel, channels, agreement) for channel in channels}


def sentence_of(values: Mapping[str, float], absent: Sequence[str] = ()) -> str:
    """Sentence on the Shapley values of a case, the largest first."""
    missing = f" {' and '.join(absent)} absent." if absent else ""
    total = sum(values.values())
    if total <= 0.0:
        return f"Nothing was outlined, so no modality accounts for it.{missing}"
    share = {name: f"{round(100.0 * value / total)} %".replace("-", "−") for name, value in values.items()}
    first, *others = sorted(values, key=lambda name: (-values[name], name))
    text = f"{first} accounts for {share[first]} of this outline"
    parts = [f"{name} for {share[name]}" for name in others]
    if parts:
        text += ", " + " and ".join(filter(None, [", ".join(parts[:-1]), parts[-1]]))
    return f"{text} (Shapley values).{missing}"


def value_of(channel: int, channels: Sequence[int], agreement: Mapping[Choice, float]) -> float:
    """Shapley value of a modality, from the value of every choice of the modalities, also of none.

    Args:
        channel: Channel of the modality.
        channels: Channels of all modalities, ascending.
        agreement: Value of each choice.
    """
    others, number = [other for other in channels if other != channel], len(channels)
    return sum(
        factorial(size)
        * factorial(number - size - 1)
        / factorial(number)
        * (agreement[tuple(sorted((*choice, channel)))] - agreement[choice])
        for size in range(number)
        for choice in combinations(others, size)
    )


def _slices_with_most(box: Box, outlined: NDArray[np.bool_], most: int, *, choices: int) -> Box:
    """Part of a box with the neighbouring slices that hold most of an outline, shape (R, D, H, W)."""
    depth, height, width = box
    of_slice = (height.stop - height.start) * (width.stop - width.start)
    all_slices = depth.stop - depth.start
    number = min(all_slices, max(1, min(int(SHARE * all_slices / choices), most // of_slice)))
    voxels = outlined[(slice(None), *box)].sum(axis=(0, 2, 3))
    start = depth.start + int(np.argmax(np.convolve(voxels, np.ones(number), mode="valid")))
    return slice(start, start + number), height, width


def _agreements(
    network: CimlNetwork, x: Tensor, masks: Tensor, channels: Sequence[int]
) -> dict[Choice, float]:
    """Agreement of every choice of modalities, and of none."""
    depth, height, width = masks.shape[1:]
    regions = masks.flatten(1).any(dim=1)
    wanted = masks[regions].flatten(1)
    present = torch.zeros(1, len(network.modalities), dtype=torch.bool, device=x.device)
    present[0, list(channels)] = True
    features = network.encode(x, present)
    found: dict[Choice, float] = {(): 0.0}
    for size in range(1, len(channels) + 1):
        for choice in combinations(channels, size):
            given = torch.zeros_like(present)
            given[0, list(choice)] = True
            output = network.decode({channel: features[channel] for channel in choice}, given, x.shape[2:])
            inside = region_probabilities(output, network.decomposition)[0, :, :depth, :height, :width]
            drawn = (inside[regions] >= 0.5).flatten(1)
            both = (drawn & wanted).sum(dim=1)
            found[choice] = float((2.0 * both / (drawn.sum(dim=1) + wanted.sum(dim=1))).mean())
    return found
