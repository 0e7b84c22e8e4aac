"""One training on the shapes, and the content that a probe reads from its messages."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Generator, Tensor, nn
from torch.nn import functional

from benchmarks.ciml import shapes
from benchmarks.ciml.shapes import MODALITIES, Shapes
from lib.ciml.network.ciml_network import CimlNetwork, Output
from lib.ciml.network.settings import NetworkSettings
from lib.ciml.training.loss import Loss, beta_at, objective
from lib.ciml.training.optimisation import warm_up_then_cosine
from lib.ciml.training.settings import TrainingSettings

STEPS, BATCH = 600, 16
FITTED, SCORED = 1200, 600  # images on which the probe is fitted and scored
GRID = 4
NAN = float("nan")


@dataclass(frozen=True)
class Setting:
    """One training; `method` is `ciml`, or `unimodal`, which has no messages and no beta."""

    method: str
    beta: float
    redundancy: float
    seed: int
    steps: int = STEPS


@dataclass(frozen=True)
class Outcome:
    """Results of one training.

    Dice, accuracies of the probes, KL in nats per channel and voxel (over all levels, then per level) and CPU
    seconds. The accuracies and the KL are NaN for a network without messages.
    """

    dice: float
    private: float = NAN
    shared: float = NAN
    private_mu: float = NAN
    shared_mu: float = NAN
    private_features: float = NAN
    shared_features: float = NAN
    kl: float = NAN
    kl_0: float = NAN
    kl_1: float = NAN
    kl_2: float = NAN
    seconds: float = NAN


def measure(setting: Setting) -> Outcome:
    """Train a network and measure it on images that it never saw."""
    start = time.process_time()
    network = trained(setting)
    generator = Generator().manual_seed(1_000_003 + setting.seed)
    world = shapes.draw(FITTED + SCORED, redundancy=setting.redundancy, generator=generator)
    with torch.inference_mode():
        output = network(world.images)
        loss = objective(output, world.regions, decomposition=network.decomposition, beta=setting.beta)
        figures = {"dice": dice(network, output, world)}
        if output.messages:
            figures |= _levels(loss) | probes(network, output, world, generator)
    return Outcome(**figures, seconds=time.process_time() - start)


def trained(setting: Setting) -> CimlNetwork:
    """A network of size `tiny`, trained on new images in each step with the app's optimiser."""
    torch.manual_seed(setting.seed)
    generator, defaults = Generator().manual_seed(setting.seed), TrainingSettings()
    decomposition = shapes.decomposition(messages=setting.method == "ciml")
    network = CimlNetwork(decomposition, MODALITIES, NetworkSettings.of_size("tiny", spatial_dims=2))
    optimiser = torch.optim.AdamW(
        network.parameters(), lr=defaults.learning_rate, weight_decay=defaults.weight_decay, fused=True
    )
    schedule = warm_up_then_cosine(optimiser, setting.steps)
    for step in range(setting.steps):
        world = shapes.draw(BATCH, redundancy=setting.redundancy, generator=generator)
        beta = beta_at(step, steps=setting.steps, beta=setting.beta, warm_up=defaults.beta_warm_up)
        output = network(world.images, generator=generator)
        optimiser.zero_grad()
        objective(output, world.regions, decomposition=decomposition, beta=beta).total.backward()
        nn.utils.clip_grad_norm_(network.parameters(), defaults.gradient_norm)
        optimiser.step()
        schedule.step()
    return network.eval()


def dice(network: CimlNetwork, output: Output, world: Shapes) -> float:
    """Mean Dice over images, subtasks and their regions; no region is ever empty."""
    values = []
    for subtask in network.decomposition.subtasks:
        mask = (output.logits[subtask.name] > 0).float()
        truth = world.regions[:, network.decomposition.region_indices(subtask)]
        values.append(2 * (mask * truth).sum(dim=(2, 3)) / (mask + truth).sum(dim=(2, 3)))
    return float(torch.stack(values).mean())


def probes(network: CimlNetwork, output: Output, world: Shapes, generator: Generator) -> dict[str, float]:
    """Accuracy of reading each factor from z, mu and the sender's features; means over the subtasks."""
    found: dict[str, list[float]] = {}
    for primary, subtask in enumerate(network.decomposition.subtasks):
        messages = [message for message in output.messages if message.subtask == subtask.name]
        sender = MODALITIES.index(subtask.auxiliary[0])
        features = network.encoders[sender](world.images[:, sender : sender + 1])
        read = {
            "": pooled([_drawn(message.mu, message.logvar, generator) for message in messages]),
            "_mu": pooled([message.mu for message in messages]),
            "_features": pooled([features[message.level] for message in messages]),
        }
        for suffix, values in read.items():
            for factor, truth in (("private", world.private[:, primary]), ("shared", world.shared)):
                found.setdefault(factor + suffix, []).append(accuracy(values, truth.numpy()))
    return {name: float(np.mean(values)) for name, values in found.items()}


def _drawn(mu: Tensor, logvar: Tensor, generator: Generator) -> Tensor:
    return mu + torch.exp(logvar / 2) * torch.randn(mu.shape, generator=generator)


def pooled(maps: Sequence[Tensor]) -> NDArray[np.float32]:
    """Maps of shape (N, C, H, W), averaged over the cells of the grid and joined as (N, features)."""
    cells = [functional.adaptive_avg_pool2d(values, GRID).flatten(1) for values in maps]
    return np.asarray(torch.cat(cells, dim=1).numpy(), dtype=np.float32)


def accuracy(values: NDArray[np.float32], truth: NDArray[np.bool_]) -> float:
    """Accuracy of a linear probe on the rows after the first `FITTED`, on which it is fitted."""
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=500))
    probe.fit(values[:FITTED], truth[:FITTED])
    return float(probe.score(values[FITTED:], truth[FITTED:]))


def _levels(loss: Loss) -> dict[str, float]:
    return {"kl": float(loss.kl)} | {f"kl_{level}": float(kl) for level, kl in loss.kl_by_level.items()}
