"""Do CIML's messages say what complements the primary, and not what it sees itself?

    python -m benchmarks.composition
    python -m benchmarks.composition --seeds 5 --betas 0,0.1
    python -m benchmarks.composition --report

CIML as reconstructed from its abstract, on the synthetic world of `benchmarks.shapes`: two modalities, two
subtasks, a square that both modalities show (shared) and a mark that only the sender shows (private). Both
factors are sides, left or right with even chance, and the square is the larger shape: shared content is not
the harder one to read.

The probe is a logistic regression (standardised, C = 0.01), fitted on 1,200 images that the network never
saw and scored on 600 others. It reads z of every level of a subtask's messages, each averaged over the cells
of a 4 x 4 grid (the bottleneck's own), and is the same for both factors; figures are means of the two
subtasks. z is *drawn* from the posterior, as the decoder got it in training, since that is the channel whose
information the KL bounds. The mean mu has no noise: a probe of it reads content however little was paid for
it, and stands beside as `mu`. Two controls: `features`, the same probe on what the messages are made from,
the sender's own features, where the shared content must be readable; and the dial at 1, where the mark is
not private any more.

beta is the price of the KL's mean over voxels, channels, levels and messages.
"""

from __future__ import annotations

import csv
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, astuple, dataclass, fields
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Generator, Tensor, nn
from torch.nn import functional

from benchmarks import shapes
from benchmarks.composition_report import print_tables
from benchmarks.shapes import MODALITIES, Shapes
from lib.ciml.network.ciml_network import CimlNetwork, NetworkSettings, Output
from lib.ciml.training.loss import Loss, beta_at, objective
from lib.ciml.training.settings import TrainingSettings, learning_rate_factor

RESULTS = Path(__file__).parent / "results" / "composition.csv"
DIAL = "0,0.5,1"
BETAS = "0,0.001,0.01,0.1,0.3,1"
STEPS, BATCH = 600, 16
FITTED, SCORED = 1200, 600  # images of the probe
GRID = 4
NAN = float("nan")


@dataclass(frozen=True)
class Setting:
    """One training: `method` is ciml, or unimodal, which has no message and no beta."""

    method: str
    beta: float
    redundancy: float
    seed: int
    steps: int = STEPS


@dataclass(frozen=True)
class Outcome:
    """Dice, accuracies of the probes, KL in nats a channel and voxel of all levels and of each, CPU seconds.

    NaN where there are no messages.
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
    """A network of size `tiny`, trained on new images in each step, with the trainer's optimiser."""
    torch.manual_seed(setting.seed)
    generator, defaults = Generator().manual_seed(setting.seed), TrainingSettings()
    decomposition = shapes.decomposition(messages=setting.method == "ciml")
    network = CimlNetwork(decomposition, MODALITIES, NetworkSettings.of_size("tiny", spatial_dims=2))
    optimiser = torch.optim.AdamW(network.parameters(), weight_decay=defaults.weight_decay, fused=True)
    for step in range(setting.steps):
        for group in optimiser.param_groups:
            group["lr"] = defaults.learning_rate * learning_rate_factor(step, setting.steps)
        world = shapes.draw(BATCH, redundancy=setting.redundancy, generator=generator)
        beta = beta_at(step, steps=setting.steps, beta=setting.beta, warm_up=defaults.beta_warm_up)
        output = network(world.images, generator=generator)
        optimiser.zero_grad()
        objective(output, world.regions, decomposition=decomposition, beta=beta).total.backward()
        nn.utils.clip_grad_norm_(network.parameters(), defaults.gradient_norm)
        optimiser.step()
    return network.eval()


def dice(network: CimlNetwork, output: Output, world: Shapes) -> float:
    """Mean over images, subtasks and their regions, which are never empty."""
    values = []
    for subtask in network.decomposition.subtasks:
        mask = (output.logits[subtask.name] > 0).float()
        truth = world.regions[:, network.decomposition.region_indices(subtask)]
        values.append(2 * (mask * truth).sum(dim=(2, 3)) / (mask + truth).sum(dim=(2, 3)))
    return float(torch.stack(values).mean())


def probes(network: CimlNetwork, output: Output, world: Shapes, generator: Generator) -> dict[str, float]:
    """Accuracy of reading each factor from z, mu and the sender's features; means of the subtasks."""
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
    """Each (N, C, H, W) averaged over the cells of the grid, side by side as (N, features)."""
    cells = [functional.adaptive_avg_pool2d(values, GRID).flatten(1) for values in maps]
    return np.asarray(torch.cat(cells, dim=1).numpy(), dtype=np.float32)


def accuracy(values: NDArray[np.float32], truth: NDArray[np.bool_]) -> float:
    """Of a linear probe, on the rows after the first `FITTED`."""
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=500))
    probe.fit(values[:FITTED], truth[:FITTED])
    return float(probe.score(values[FITTED:], truth[FITTED:]))


def _levels(loss: Loss) -> dict[str, float]:
    return {"kl": float(loss.kl)} | {f"kl_{level}": float(kl) for level, kl in loss.kl_by_level.items()}


def settings(
    *, seeds: int, betas: Sequence[float], dial: Sequence[float], steps: int = STEPS
) -> Iterator[Setting]:
    """All work, seed by seed, so that an interrupted run has every row of the table."""
    for seed in range(seeds):
        for redundancy in dial:
            yield Setting("unimodal", 0.0, redundancy, seed, steps)
            yield from (Setting("ciml", beta, redundancy, seed, steps) for beta in betas)


def read_results(path: Path) -> dict[Setting, Outcome]:
    """What a CSV holds; nothing where there is none."""
    if not path.exists():
        return {}
    with path.open(newline="") as file:
        return {
            Setting(
                row["method"],
                float(row["beta"]),
                float(row["redundancy"]),
                int(row["seed"]),
                int(row["steps"]),
            ): Outcome(**{field.name: float(row[field.name]) for field in fields(Outcome)})
            for row in csv.DictReader(file)
        }


def write_result(path: Path, setting: Setting, outcome: Outcome) -> None:
    """Add a row, and the header to a new file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = not path.exists()
    with path.open("a", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        if new:
            rows.writerow([field.name for kind in (Setting, Outcome) for field in fields(kind)])
        rows.writerow([*astuple(setting), *(f"{value:.6g}" for value in astuple(outcome))])


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError as err:
        raise typer.BadParameter(f"must be numbers separated by commas; got {text!r}.") from err


def main(
    seeds: Annotated[int, typer.Option(help="Trainings of each setting.", min=1)] = 3,
    betas: Annotated[str, typer.Option(help="Prices of a nat, separated by commas.")] = BETAS,
    dial: Annotated[str, typer.Option(help="Probabilities that the primary shows the mark too.")] = DIAL,
    steps: Annotated[int, typer.Option(help="Optimiser steps of a training.", min=1)] = STEPS,
    output: Annotated[Path, typer.Option(help="One row a training; rows already there are kept.")] = RESULTS,
    report: Annotated[bool, typer.Option("--report", help="Only print the tables of the CSV.")] = False,
) -> None:
    """Train what is not in the CSV yet, then print its tables.

    Example: python -m benchmarks.composition --seeds 5 --betas 0,0.001,0.1
    """
    torch.set_num_threads(1)
    console, known = Console(width=170), read_results(output)
    wanted = settings(seeds=seeds, betas=_numbers(betas), dial=_numbers(dial), steps=steps)
    missing = [] if report else [setting for setting in wanted if setting not in known]
    for setting in track(missing, "training", console=console, disable=not missing):
        known[setting] = measure(setting)
        write_result(output, setting, known[setting])
    shown = [
        {**asdict(setting), **asdict(outcome)} for setting, outcome in known.items() if setting.steps == steps
    ]
    print_tables(console, shown, default=TrainingSettings().beta)


if __name__ == "__main__":
    typer.run(main)
