"""Maps of the contribution of each modality to each subtask, from one forward pass of a single case.

CIML as reconstructed from its abstract (Shen et al., Neural Networks 180 (2024) 106670). The decoder of a
subtask receives a sum at each level, F' = F_p + sum_a conv_out(z_a), so every modality has a part in it: a
primary modality contributes its features, a sender its message. A map is computed at each level and
interpolated linearly to the grid; the docstring of each function says how it combines the levels.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

import torch
from monai.visualize.class_activation_maps import GradCAM
from torch import Tensor, nn
from torch.nn import functional

from lib.ciml.decomposition.subtask import Subtask
from lib.ciml.inference.predict import region_probabilities
from lib.ciml.network.ciml_network import CimlNetwork, Output
from lib.ciml.network.message import Message
from lib.ciml.training.loss import message_kl

Link = tuple[str, str]  # (modality, subtask)
Maps = dict[Link, Tensor]

MEASURE_UNITS: dict[str, str] = {
    "attention": "0 to 1",
    "magnitude": "root mean square of z",
    "kl": "nats",
    "addition": "typical length of the features = 1",
    "gradient": "logit",
    "grad_cam": "arbitrary units",
}
OF_PRIMARIES = frozenset({"addition", "gradient", "grad_cam"})  # have primary -> its own subtask too
_TINY = 1e-6  # avoids division by zero for a subtask without features


@dataclass(frozen=True, eq=False)
class ForwardTrace:
    """Record of one forward pass of a single case: inputs and outputs of the decoders.

    Attributes:
        network: Network of the pass; its weights are frozen.
        x: Input of the network, shape (1, M, D, H, W).
        present: Modalities that the case has, shape (1, M), bool.
        silent: Links whose messages were not sent.
        features: Features of each present modality, finest level first.
        output: Output of the network.
        received: Decoder input F' of each subtask, finest level first.
        parts: Part of each link in F', by level.
        regions: Probabilities of the regions, shape (1, R, D, H, W).
    """

    network: CimlNetwork
    x: Tensor
    present: Tensor
    silent: Collection[Link]
    features: dict[str, list[Tensor]]
    output: Output
    received: dict[str, list[Tensor]]
    parts: dict[Link, dict[int, Tensor]]
    regions: Tensor

    def outlined(self, task: Subtask) -> Tensor:
        """Masks of a subtask's regions, predicted by all subtasks, shape (1, R_s, D, H, W), bool."""
        return self.regions[:, self.network.decomposition.region_indices(task)] >= 0.5


def record(
    network: CimlNetwork, x: Tensor, present: Tensor, *, silent: Collection[Link] = ()
) -> ForwardTrace:
    """Run one forward pass without gradients and record the inputs of the decoders.

    Args:
        network: Network in evaluation mode, so that z is its mean, with frozen weights.
        x: Input, shape (1, M, D, H, W), with axes that are multiples of the network's divisor.
        present: Modalities that the case has, shape (1, M), bool.
        silent: Messages (sender, subtask) that are not sent.
    """
    output, received = Output({}, [], network.reliability_with(present)), {}
    parts: dict[Link, dict[int, Tensor]] = {}
    with torch.no_grad():
        features = {
            network.modalities[channel]: levels for channel, levels in network.encode(x, present).items()
        }
        for task, branch, decoder in zip(
            network.decomposition.subtasks, network.branches, network.decoders, strict=True
        ):
            received[task.name], messages = branch(
                _by_channel(network, features), present, generator=None, silent=silent
            )
            output.logits[task.name] = decoder(received[task.name], x.shape[2:])
            output.messages.extend(messages)
            leading = [name for name in task.primary if name in features]
            for name in leading:  # F_p is the mean over the present primary modalities
                parts[name, task.name] = {n: level / len(leading) for n, level in enumerate(features[name])}
    for message in output.messages:
        parts.setdefault((message.sender, message.subtask), {})[message.level] = message.addition
    regions = region_probabilities(output, network.decomposition)
    return ForwardTrace(network, x, present, silent, features, output, received, parts, regions)


def attention_maps(trace: ForwardTrace) -> Maps:
    """Attention A, mean over the levels that have a message."""
    return _mean_over_levels(trace, lambda message: message.attention)


def magnitude_maps(trace: ForwardTrace) -> Maps:
    """Root mean square of z over its channels, mean over the levels that have a message."""
    return _mean_over_levels(trace, lambda message: message.mu.square().mean(dim=1, keepdim=True).sqrt())


def divergence_maps(trace: ForwardTrace) -> Maps:
    """KL(N(mu, sigma^2) || N(0, 1)) summed over channels and levels, in nats."""
    shape = trace.x.shape[2:]
    return {
        link: _summed((message_kl(message).sum(dim=1, keepdim=True) for message in messages), shape)
        for link, messages in _messages(trace).items()
    }


def addition_maps(trace: ForwardTrace) -> Maps:
    """Length of a part over the root mean square length of F' in the box, mean over the network's levels.

    A level at which the modality has no part counts as 0. Primary modalities have maps too.
    """
    shape = trace.x.shape[2:]
    typical = {
        name: [level.square().sum(dim=1).mean().sqrt().clamp(min=_TINY) for level in levels]
        for name, levels in trace.received.items()
    }
    return {
        (name, task): _summed(
            (part.norm(dim=1, keepdim=True) / typical[task][level] for level, part in parts.items()), shape
        )
        / len(typical[task])
        for (name, task), parts in trace.parts.items()
    }


def gradient_maps(trace: ForwardTrace) -> Maps:
    """Part times gradient of the logit summed inside the predicted region, in logits; signed.

    The product is summed over channels and levels. The value of a coarse voxel is divided among the grid
    voxels that it covers, so the sum of a map is the first-order estimate of what the summed logit loses when
    the part is silenced. Primary modalities have maps too. Subtasks without a predicted region have no map.
    """
    shape, maps = trace.x.shape[2:], {}
    for task, decoder in zip(trace.network.decomposition.subtasks, trace.network.decoders, strict=True):
        mask = trace.outlined(task)
        if not mask.any():
            continue
        leaves = [level.detach().requires_grad_() for level in trace.received[task.name]]
        with torch.enable_grad():
            logits = decoder(leaves, shape)
            slopes = torch.autograd.grad(logits[mask].sum(), leaves)
        for (name, subtask), parts in trace.parts.items():
            if subtask == task.name:
                products = (
                    (part * slopes[level]).sum(dim=1, keepdim=True) * part.shape[2:].numel() / shape.numel()
                    for level, part in parts.items()
                )
                maps[name, subtask] = _summed(products, shape)
    return maps


def grad_cam_maps(trace: ForwardTrace) -> Maps:
    """Grad-CAM by MONAI on the deepest features of each modality's encoder, for the same logit.

    Primary modalities have maps too. Subtasks without a predicted region have no map.
    """
    maps = {}
    for task in trace.network.decomposition.subtasks:
        for name in (*task.primary, *task.auxiliary):
            if (name, task.name) in trace.parts and trace.outlined(task).any():
                logit = _RegionLogit(trace, task, name)
                cam = GradCAM(nn_module=logit, target_layers="deepest", postprocessing=lambda found: found)
                with torch.enable_grad():
                    found = cam(x=trace.features[name][-1].detach().requires_grad_(), class_idx=0)
                maps[name, task.name] = _summed([found.detach()], trace.x.shape[2:])
    return maps


MAPS: dict[str, Callable[[ForwardTrace], Maps]] = {
    "attention": attention_maps,
    "magnitude": magnitude_maps,
    "kl": divergence_maps,
    "addition": addition_maps,
    "gradient": gradient_maps,
    "grad_cam": grad_cam_maps,
}


class _RegionLogit(nn.Module):
    """Module for Grad-CAM that computes the logit of a subtask summed inside its predicted region.

    Its input is the deepest features of one modality; all other features come from the trace.
    """

    def __init__(self, trace: ForwardTrace, task: Subtask, modality: str) -> None:
        super().__init__()
        self.heard, self.modality, self.mask = trace, modality, trace.outlined(task)
        self.number = trace.network.decomposition.subtasks.index(task)
        self.deepest = nn.Identity()  # layer that Grad-CAM hooks

    def forward(self, x: Tensor) -> Tensor:
        """Summed logit, shape (1, 1)."""
        levels = [*self.heard.features[self.modality][:-1], self.deepest(x)]
        network, trace = self.heard.network, self.heard
        received, _ = network.branches[self.number](
            _by_channel(network, {**trace.features, self.modality: levels}),
            trace.present,
            generator=None,
            silent=trace.silent,
        )
        logits = network.decoders[self.number](received, trace.x.shape[2:])
        return torch.sum(logits[self.mask]).view(1, 1)


def _by_channel(network: CimlNetwork, features: Mapping[str, list[Tensor]]) -> dict[int, list[Tensor]]:
    return {network.modalities.index(name): levels for name, levels in features.items()}


def _messages(trace: ForwardTrace) -> dict[Link, list[Message]]:
    found: dict[Link, list[Message]] = {}
    for message in trace.output.messages:
        found.setdefault((message.sender, message.subtask), []).append(message)
    return found


def _mean_over_levels(trace: ForwardTrace, value: Callable[[Message], Tensor]) -> Maps:
    shape = trace.x.shape[2:]
    return {
        link: _summed((value(message) for message in messages), shape) / len(messages)
        for link, messages in _messages(trace).items()
    }


def _summed(levels: Iterable[Tensor], shape: torch.Size) -> Tensor:
    """Sum of the levels, interpolated to the grid, shape (1, 1, D, H, W)."""
    total = torch.zeros(())
    for level in levels:
        total = total.to(level.device) + functional.interpolate(
            level.float(), size=shape, mode="trilinear", align_corners=False
        )
    return total
