"""Does a training survive kill -9 at any moment, and does it end with the same model?

    python -m benchmarks.server.killed_training --kills 20

A process trains on seven labelled samples, round after round from the model of the previous round, and is
killed at random moments. After each kill the published model must load and be no worse than the one before
it. An interrupted training must resume and end with the same result as an uninterrupted one. The spread
between trainings with other seeds shows the size of the noise.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console

from benchmarks.common.folders import RESULTS, ROOT
from benchmarks.common.tables import table_of, write_rows
from benchmarks.server.seven_samples import copy_of_samples
from lib.ciml.checkpoint import load
from lib.ciml.model_versions import Models
from lib.ciml.training.settings import TrainingSettings

ROWS = RESULTS / "killed_training.csv"
_FOR_EVER = 10_000  # rounds
STEPS = TrainingSettings().steps_per_epoch
_WORKER = """
import sys
from dataclasses import replace
from pathlib import Path
import torch
from lib.pipeline import training
from lib.pipeline.settings import AppSettings
from lib.pipeline.workspace import Workspace

studies, work, log, seed, rounds, epochs, steps = sys.argv[1:]
torch.set_num_threads(1)
usual = training.training_settings
training.training_settings = lambda *of, **more: replace(usual(*of, **more), steps_per_epoch=int(steps))
print("ready", flush=True)

def note(*words):
    with open(log, "a") as stream:
        print(*words, file=stream)

done = Path(log).read_text().count("ended") if Path(log).exists() else 0
for number in range(done, int(rounds)):
    settings = AppSettings(seed=int(seed) + number, train_epochs=int(epochs), work_dir=work)
    site = Workspace(Path(studies), settings)
    def told(share, message):
        if message.startswith("epoch"):
            note("epoch", number, message.split()[1])
    stats = training.train_workspace(site, on_progress=told)
    note("ended", number, stats["dice"], stats["version"])
"""


@dataclass(frozen=True)
class Chain:
    """Rounds of training in a work folder, each from the model that the previous round published.

    Attributes:
        studies: Folder of the labelled cases.
        work: Folder of the models.
        seed: Seed of the first round; every further round has the next seed.
        epochs: Epochs of a round.
        steps: Steps of an epoch.
    """

    studies: Path
    work: Path
    seed: int
    epochs: int
    steps: int

    @property
    def log(self) -> Path:
        """File with a line for each reported epoch and each finished round."""
        return self.work.with_suffix(".log")

    def start(self, rounds: int) -> subprocess.Popen[bytes]:
        """Start a process that trains until `rounds` rounds are done; return when it is about to train."""
        words = (self.studies, self.work, self.log, self.seed, rounds, self.epochs, self.steps)
        worker = subprocess.Popen(
            [sys.executable, "-c", _WORKER, *map(str, words)], cwd=ROOT, stdout=subprocess.PIPE
        )
        assert worker.stdout is not None
        worker.stdout.readline()
        return worker

    def run(self, rounds: int) -> list[float]:
        """Train without interruption, and return the validation Dice of each round."""
        if (code := self.start(rounds).wait()) != 0:
            raise RuntimeError(f"training must succeed; it returned {code}")
        return self.dice()

    def dice(self) -> list[float]:
        """Validation Dice of each finished round."""
        lines = self._lines()
        ended = {int(words[1]): float(words[2]) for words in lines if words[0] == "ended"}
        return [ended[number] for number in sorted(ended)]

    def repeated(self) -> int:
        """Number of epochs that were done again."""
        told = Counter(tuple(words[1:]) for words in self._lines() if words[0] == "epoch")
        return sum(count - 1 for count in told.values())

    def _lines(self) -> list[list[str]]:
        return [line.split() for line in self.log.read_text().splitlines()] if self.log.exists() else []


@dataclass(frozen=True)
class Killings:
    """Counts and differences over all kills.

    Attributes:
        kills: Processes that were killed while they trained.
        rounds: Trainings that finished in spite of the kills.
        unreadable: Published models that did not load; must be 0.
        worse: Versions with a lower validation Dice than the one before; must be 0.
        repeated: Epochs that were done again; at most one per kill.
        difference: Largest difference in validation Dice between a round and the same round uninterrupted.
        noise: Standard deviation of the validation Dice over seeds, uninterrupted.
    """

    kills: int
    rounds: int
    unreadable: int
    worse: int
    repeated: int
    difference: float
    noise: float


def kill_trainings(chain: Chain, *, kills: int, duration: float, seed: int) -> tuple[int, int, int]:
    """Kill trainings at random moments of a round, then let the last one finish.

    Args:
        chain: Rounds of training to kill.
        kills: Number of kills.
        duration: Duration of a round in seconds; a process is killed within this time.
        seed: Seed of the moments of the kills.

    Returns:
        Kills, published models that did not load, and versions worse than the one before.
    """
    rng = np.random.default_rng(seed)
    unreadable = worse = 0
    for _ in range(kills):
        worker = chain.start(_FOR_EVER)
        try:
            worker.wait(timeout=rng.uniform(0, duration))
            raise RuntimeError(f"training must run until it is killed; it returned {worker.returncode}")
        except subprocess.TimeoutExpired:
            worker.kill()
        worker.wait()
        bad, lower = _look(Models(chain.work / "model"))
        unreadable, worse = unreadable + bad, max(worse, lower)
    chain.run(len(chain.dice()) + 1)
    bad, lower = _look(Models(chain.work / "model"))
    return kills, unreadable + bad, max(worse, lower)


def _look(models: Models) -> tuple[int, int]:
    """Whether the current model fails to load (1 or 0), and number of versions worse than the one before."""
    current = models.current()
    if current is None:
        return 0, 0
    try:
        load(current)
    except ValueError:
        return 1, 0
    dice = [about["dice"] for about in models.versions()]
    return 0, sum(after < before for before, after in pairwise(dice))


def measure(folder: Path, *, kills: int, seeds: int, epochs: int, seed: int, steps: int = STEPS) -> Killings:
    """Kill trainings on the samples, and train the same rounds without interruption.

    Args:
        folder: Empty folder to work in.
        kills: Processes to kill.
        seeds: Number of uninterrupted first rounds that give the noise.
        epochs: Epochs of a round.
        seed: Seed of the moments of the kills.
        steps: Steps of an epoch.
    """
    studies = copy_of_samples(folder / "studies")

    def chain_of(name: str, seed: int) -> Chain:
        return Chain(studies, folder / name, seed, epochs, steps)

    start = time.monotonic()
    apart = [chain_of(f"apart{number}", number).run(1)[0] for number in range(seeds)]
    duration = (time.monotonic() - start) / seeds
    chain = chain_of("killed", 0)
    killed, unreadable, worse = kill_trainings(chain, kills=kills, duration=duration, seed=seed)
    whole = chain_of("apart0", 0).run(len(chain.dice()))
    return Killings(
        killed,
        len(whole),
        unreadable,
        worse,
        chain.repeated(),
        difference=float(np.abs(np.subtract(chain.dice(), whole)).max()),
        noise=float(np.std(apart, ddof=1)) if seeds > 1 else 0.0,
    )


def main(
    kills: Annotated[int, typer.Option(help="Processes to kill.")] = 20,
    seeds: Annotated[int, typer.Option(help="Uninterrupted trainings for the noise.")] = 3,
    epochs: Annotated[int, typer.Option(help="Epochs of a training.")] = 3,
    seed: Annotated[int, typer.Option(help="Seed of the moments of the kills.")] = 0,
) -> None:
    """Kill trainings, and compare their results with uninterrupted trainings."""
    with tempfile.TemporaryDirectory() as folder:
        seen = measure(Path(folder), kills=kills, seeds=seeds, epochs=epochs, seed=seed)
    Console().print(table_of([vars(seen)], f"Training of {epochs} epochs under kill -9", digits=4))
    write_rows(ROWS, [vars(seen)])


if __name__ == "__main__":
    typer.run(main)
