"""Maps of what each modality told each subtask, from one pass over a batch of one.

CIML as reconstructed from its abstract (Shen et al., Neural Networks 180 (2024) 106670). What a subtask's
decoder reads at each level is a sum, F' = F_p + sum_a conv_out(z_a), so every modality has a part in it: a
primary its features, a sender its message. A map is made at each level and brought to the grid by linear
interpolation; each function here says how the levels are combined.
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

UNITS: dict[str, str] = {
    "attention": "0 to 1",
    "magnitude": "root mean square of z",
    "kl": "nats",
    "addition": "typical length of the features = 1",
    "gradient": "logit",
    "grad_cam": "arbitrary units",
}
OF_PRIMARIES = frozenset({"addition", "gradient", "grad_cam"})  # have primary -> its own subtask too
_TINY = 1e-6  # keeps a subtask that reads nothing from dividing by zero


@dataclass(frozen=True, eq=False)
class ForwardTrace:
    """What the decoders of a batch of one read, and what they made of it.

    Attributes:
        network: That was run; its weights are frozen.
        x: (1, M, D, H, W) its input.
        present: (1, M) bool.
        silent: Links whose messages were not sent.
        features: Of each modality that is there, finest level first.
        output: Its output.
        received: F' of each subtask, finest level first.
        parts: Part of each link in it, by level.
        regions: (1, R, D, H, W) probabilities.
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
        """(1, R_s, D, H, W) bool, where all subtasks together predict the regions of this one."""
        return self.regions[:, self.network.decomposition.region_indices(task)] >= 0.5


def record(
    network: CimlNetwork, x: Tensor, present: Tensor, *, silent: Collection[Link] = ()
) -> ForwardTrace:
    """One pass without gradients that keeps what the decoders read.

    Args:
        network: In evaluation mode, so that z is its mean, with frozen weights.
        x: (1, M, D, H, W), its axes multiples of the network's divisor.
        present: (1, M) bool.
        silent: (sender, subtask) of messages that are not sent.
    """
    output, received = Output({}, []), {}
    parts: dict[Link, dict[int, Tensor]] = {}
    with torch.no_grad():
        features = {
            name: encoder(x[:, channel : channel + 1])
            for channel, (name, encoder) in enumerate(zip(network.modalities, network.encoders, strict=True))
            if present[0, channel]
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
            for name in leading:  # the primary features are the mean of those that are there
                parts[name, task.name] = {n: level / len(leading) for n, level in enumerate(features[name])}
    for message in output.messages:
        parts.setdefault((message.sender, message.subtask), {})[message.level] = message.addition
    regions = region_probabilities(output, network.decomposition)
    return ForwardTrace(network, x, present, silent, features, output, received, parts, regions)


def attention_maps(heard: ForwardTrace) -> Maps:
    """A, mean of the levels that have a message."""
    return _mean_over_levels(heard, lambda message: message.attention)


def magnitude_maps(heard: ForwardTrace) -> Maps:
    """Root mean square of z over its channels, mean of the levels that have a message."""
    return _mean_over_levels(heard, lambda message: message.mu.square().mean(dim=1, keepdim=True).sqrt())


def divergence_maps(heard: ForwardTrace) -> Maps:
    """KL(N(mu, sigma^2) || N(0, 1)) summed over channels and levels, in nats."""
    shape = heard.x.shape[2:]
    return {
        link: _summed((message_kl(message).sum(dim=1, keepdim=True) for message in messages), shape)
        for link, messages in _messages(heard).items()
    }


def addition_maps(heard: ForwardTrace) -> Maps:
    """Length of a part over the root mean square length of F' in the box, mean of the network's levels.

    A level at which the modality has no part counts 0. Primaries have maps too.
    """
    shape = heard.x.shape[2:]
    typical = {
        name: [level.square().sum(dim=1).mean().sqrt().clamp(min=_TINY) for level in levels]
        for name, levels in heard.received.items()
    }
    return {
        (name, task): _summed(
            (part.norm(dim=1, keepdim=True) / typical[task][level] for level, part in parts.items()), shape
        )
        / len(typical[task])
        for (name, task), parts in heard.parts.items()
    }


def gradient_maps(heard: ForwardTrace) -> Maps:
    """Part times gradient of the logit summed inside the predicted region, in logits; signed.

    Summed over channels and levels, a voxel of a level shared out among the voxels of the grid that it stands
    for, so that the sum of a map is the first-order estimate of what the logit's sum loses when the part is
    silenced. Primaries have maps too. Zero where nothing is predicted.
    """
    shape, maps = heard.x.shape[2:], {}
    for task, decoder in zip(heard.network.decomposition.subtasks, heard.network.decoders, strict=True):
        mask = heard.outlined(task)
        if not mask.any():
            continue
        leaves = [level.detach().requires_grad_() for level in heard.received[task.name]]
        with torch.enable_grad():
            logits = decoder(leaves, shape)
            slopes = torch.autograd.grad(logits[mask].sum(), leaves)
        for (name, subtask), parts in heard.parts.items():
            if subtask == task.name:
                products = (
                    (part * slopes[level]).sum(dim=1, keepdim=True) * part.shape[2:].numel() / shape.numel()
                    for level, part in parts.items()
                )
                maps[name, subtask] = _summed(products, shape)
    return maps


def grad_cam_maps(heard: ForwardTrace) -> Maps:
    """Grad-CAM by MONAI on the deepest features of each modality's encoder, for the same logit.

    Primaries have maps too. Zero where nothing is predicted.
    """
    maps = {}
    for task in heard.network.decomposition.subtasks:
        for name in (*task.primary, *task.auxiliary):
            if (name, task.name) in heard.parts and heard.outlined(task).any():
                logit = _RegionLogit(heard, task, name)
                cam = GradCAM(nn_module=logit, target_layers="deepest", postprocessing=lambda found: found)
                with torch.enable_grad():
                    found = cam(x=heard.features[name][-1].detach().requires_grad_(), class_idx=0)
                maps[name, task.name] = _summed([found.detach()], heard.x.shape[2:])
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
    """What Grad-CAM asks for, one number a class: a subtask's logit summed inside its predicted region.

    It starts from the deepest features of one modality; the rest is as it was heard.
    """

    def __init__(self, heard: ForwardTrace, task: Subtask, modality: str) -> None:
        super().__init__()
        self.heard, self.modality, self.mask = heard, modality, heard.outlined(task)
        self.number = heard.network.decomposition.subtasks.index(task)
        self.deepest = nn.Identity()  # where Grad-CAM listens

    def forward(self, x: Tensor) -> Tensor:
        """(1, 1)."""
        levels = [*self.heard.features[self.modality][:-1], self.deepest(x)]
        network, heard = self.heard.network, self.heard
        received, _ = network.branches[self.number](
            _by_channel(network, {**heard.features, self.modality: levels}),
            heard.present,
            generator=None,
            silent=heard.silent,
        )
        logits = network.decoders[self.number](received, heard.x.shape[2:])
        return torch.sum(logits[self.mask]).view(1, 1)


def _by_channel(network: CimlNetwork, features: Mapping[str, list[Tensor]]) -> dict[int, list[Tensor]]:
    return {network.modalities.index(name): levels for name, levels in features.items()}


def _messages(heard: ForwardTrace) -> dict[Link, list[Message]]:
    found: dict[Link, list[Message]] = {}
    for message in heard.output.messages:
        found.setdefault((message.sender, message.subtask), []).append(message)
    return found


def _mean_over_levels(heard: ForwardTrace, value: Callable[[Message], Tensor]) -> Maps:
    shape = heard.x.shape[2:]
    return {
        link: _summed((value(message) for message in messages), shape) / len(messages)
        for link, messages in _messages(heard).items()
    }


def _summed(levels: Iterable[Tensor], shape: torch.Size) -> Tensor:
    """Sum over the levels on the grid, (1, 1, D, H, W)."""
    total = torch.zeros(())
    for level in levels:
        total = total.to(level.device) + functional.interpolate(
            level.float(), size=shape, mode="trilinear", align_corners=False
        )
    return total
