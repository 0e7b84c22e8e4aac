"""Sliding windows: how a case passes through a network within the available memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import prod

import torch
from monai.inferers.utils import sliding_window_inference
from torch import Tensor
from torch.nn import functional

from lib.ciml.network.ciml_network import CimlNetwork
from lib.ciml.network.precision import Precision
from lib.ciml.network.settings import NetworkSettings

CPU_BYTES = 2e9  # main memory that one pass may use; other processes share it
_GPU_SHARE = 0.5  # share of the free GPU memory that one pass may use
_COPIES = 1.8  # peak memory over the kept features, with the workspace of convolutions; measured on a CPU
_BYTES_IN_AND_OUT = 8  # per voxel, modality and region, in float32 and the network's format
_OF_ANOTHER_NETWORK = 1_000_000  # voxels in one pass of a network of unknown shape

Window = tuple[int, ...]
Compute = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Attempt:
    """One attempt to pass a case through a network.

    Attributes:
        device: Device to compute on.
        max_voxels: Largest number of voxels in one pass.
    """

    device: torch.device
    max_voxels: int

    def sentence(self, window: Window) -> str:
        """Sentence for the user if an earlier attempt ran out of memory."""
        where = "on the CPU" if self.device.type == "cpu" else "on the GPU"
        size = " x ".join(map(str, window))
        return (
            f"The device's memory did not hold it as planned: it was computed {where}, {size} voxels at once."
        )


def attempts(network: CimlNetwork, device: torch.device, precision: Precision) -> Iterator[Attempt]:
    """Attempts in the order to try when memory runs out: twice with smaller windows, then on the CPU."""
    most = voxels_within(_budget(device), network, precision)
    yield Attempt(device, most)
    yield Attempt(device, most // 4)
    yield Attempt(device, most // 16)
    if device.type != "cpu":
        yield Attempt(torch.device("cpu"), voxels_within(CPU_BYTES, network, "float32"))


def voxels_within(budget: float, network: CimlNetwork, precision: Precision) -> int:
    """Number of voxels for which one pass takes about `budget` bytes, estimated from the network's shape."""
    settings, decomposition = network.settings, network.decomposition
    if not isinstance(settings, NetworkSettings):
        return _OF_ANOTHER_NETWORK
    kept, volume = 0.0, 1
    messages = sum(len(subtask.auxiliary) for subtask in decomposition.subtasks)
    for level, (channels, stride) in enumerate(zip(settings.channels, settings.strides, strict=True)):
        volume *= prod(stride[-settings.spatial_dims :])
        kept += len(network.modalities) * channels / volume
        if level in settings.levels_of_messages:
            kept += messages * (channels + 2 * settings.message_channels + 1) / volume
    size = 4 if precision == "float32" else 2
    ends = _BYTES_IN_AND_OUT * (len(network.modalities) + len(decomposition.regions))
    return int(budget / (_COPIES * size * kept + ends))


def window_of(shape: Window, divisor: Window, max_voxels: int) -> Window:
    """Largest window of at most `max_voxels`, found by repeatedly halving the longest axis of the case.

    The axes of the window are multiples of the divisor. Each axis has at least two bottleneck voxels, because
    a single voxel has no standard deviation for the normalisation.
    """
    window = list(whole_window(shape, divisor))
    while prod(window) > max_voxels:
        halves = [_multiple(-(-size // 2), step) for size, step in zip(window, divisor, strict=True)]
        axis = max(range(len(window)), key=lambda axis: (window[axis] - halves[axis], window[axis]))
        if halves[axis] == window[axis]:
            break
        window[axis] = halves[axis]
    return tuple(window)


def pass_through(
    compute: Compute, x: Tensor, window: Window, *, device: torch.device, overlap: float
) -> Tensor:
    """Compute in one pass if the window holds the whole input, else in overlapping windows.

    Args:
        compute: Function from (B, M, D, H, W) on the device to (B, R, D, H, W).
        x: Input on any device, shape (1, M, D, H, W).
        window: Window (D, H, W), with axes that are multiples of the network's divisor.
        device: Device to compute on.
        overlap: Share of a window that the neighbouring window repeats.

    Returns:
        Result in main memory, shape (1, R, D, H, W), float32.
    """
    shape = tuple(x.shape[2:])
    if all(size <= side for size, side in zip(shape, window, strict=True)):
        return compute(padded_to(x.to(device), window))[..., : shape[0], : shape[1], : shape[2]].cpu()
    answer = sliding_window_inference(
        x, window, 1, compute, overlap=overlap, mode="gaussian", sw_device=device, device="cpu"
    )
    if not isinstance(answer, Tensor):
        raise TypeError(f"the windows' answer must be one tensor; got {type(answer).__name__}.")
    return answer


def padded_to(x: Tensor, size: Window) -> Tensor:
    """Images with zeros behind along each axis (D, H, W), up to a size."""
    padding = [side - there for there, side in zip(x.shape[2:], size, strict=True)]
    return functional.pad(x, [side for extra in reversed(padding) for side in (0, extra)])


def whole_window(shape: Window, divisor: Window) -> Window:
    """Smallest window that holds a whole shape (D, H, W)."""
    return tuple(_multiple(size, step) for size, step in zip(shape, divisor, strict=True))


def _multiple(size: int, step: int) -> int:
    return max(size + -size % step, 2 * step)


def _budget(device: torch.device) -> float:
    if device.type == "cuda":
        return _GPU_SHARE * torch.cuda.mem_get_info(device)[0]
    return CPU_BYTES
