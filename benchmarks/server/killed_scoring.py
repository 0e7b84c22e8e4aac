"""Does a scoring survive kill -9 at any moment, and how much work is done twice?

    python -m benchmarks.server.killed_scoring --kills 100

A process scores seven samples again and again, each time with another seed, and is killed at random moments.
After each kill the plan must be the complete old or the complete new one, and the next start must resume the
training that was interrupted.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.progress import track

from benchmarks.common.folders import RESULTS, ROOT
from benchmarks.common.tables import table_of, write_rows
from benchmarks.server.seven_samples import PATIENTS, copy_of_samples
from lib.mdal.selection.strategies import STRATEGIES
from lib.pipeline.settings import AppSettings
from lib.pipeline.workspace import Workspace
from lib.plan.store import PlanStore

ROWS = RESULTS / "killed_scoring.csv"
REPEATS, PAIRS = 2, 3  # repeats of a quick scoring, pairs of three modalities
_WORKER = """
import sys
from pathlib import Path
import lib.mdal.scoring.score_pool as score
from lib.pipeline.planning import plan_pool
from lib.pipeline.settings import AppSettings
from lib.pipeline.workspace import Workspace

studies, log, seed = sys.argv[1:]
train = score.train_fold

def noted(*arguments, **more):
    with open(log, "a") as stream:
        print("started", seed, more["seed"], file=stream)
    model = train(*arguments, **more)
    save = model.save
    def saved(path):
        save(path)
        with open(log, "a") as stream:
            print("kept", seed, more["seed"], file=stream)
    object.__setattr__(model, "save", saved)
    return model

score.train_fold = noted
print("ready", flush=True)
plan_pool(Workspace(Path(studies), AppSettings(
    seed=int(seed), scoring="quick", study_labels="ignore")))
"""


@dataclass(frozen=True)
class Killings:
    """Counts over all kills.

    Attributes:
        kills: Processes that were killed while they scored.
        halves: Plans that were incomplete; must be 0.
        repeated: Trainings that were done again although their model was kept; must be 0.
        cut: Trainings that started and were not kept; at most one per kill.
        plans: Plans that were finished between the kills.
    """

    kills: int
    halves: int
    repeated: int
    cut: int
    plans: int


def kill_scorings(studies: Path, log: Path, *, kills: int, seed: int) -> Killings:
    """Kill scorings of a folder at random moments."""
    rng = np.random.default_rng(seed)
    killed = halves = of = 0
    duration = 8.0  # seconds of a scoring, updated after each one that ends
    for _ in track(range(10 * kills), "killing", console=Console(stderr=True)):
        if killed == kills:
            break
        worker = subprocess.Popen(
            [sys.executable, "-c", _WORKER, str(studies), str(log), str(of)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
        )
        assert worker.stdout is not None
        worker.stdout.readline()
        start = time.monotonic()
        try:
            worker.wait(timeout=rng.uniform(0, duration))
        except subprocess.TimeoutExpired:
            worker.kill()
            killed += 1
        worker.wait()
        halves += not _is_whole(studies)
        if worker.returncode == 0:
            duration = max(2.0, time.monotonic() - start)
            of += 1
        elif worker.returncode > 0:
            raise RuntimeError(f"scoring must succeed or be killed; it returned {worker.returncode}")
    lines = Counter(log.read_text().split("\n"))
    started = {line: count for line, count in lines.items() if line.startswith("started")}
    kept = {line: count for line, count in lines.items() if line.startswith("kept")}
    repeated = sum(count - 1 for count in kept.values())
    return Killings(killed, halves, repeated, sum(started.values()) - sum(kept.values()), of)


def _is_whole(studies: Path) -> bool:
    """Whether the newest plan has every score and every rank, or there is no plan yet."""
    file = studies / ".mdal" / "plan.sqlite"
    if not file.exists():
        return True
    store = PlanStore.beside(file.parent)
    plan = store.current()
    if plan is None:
        return True
    orders = [store.order(name) for name in STRATEGIES]
    pairs = [len(store.pair_scores(id)) for id in PATIENTS]
    store.close()
    return (
        all(sorted(order) == list(PATIENTS) for order in orders)
        and pairs == [PAIRS * REPEATS] * len(PATIENTS)
        and bool(plan.about["gates"])
    )


def main(
    kills: Annotated[int, typer.Option(help="Processes to kill.")] = 100,
    seed: Annotated[int, typer.Option(help="Seed of the moments of the kills.")] = 0,
) -> None:
    """Kill scorings, and count incomplete plans and repeated trainings."""
    with tempfile.TemporaryDirectory() as folder:
        studies = copy_of_samples(Path(folder) / "studies")
        seen = kill_scorings(studies, Path(folder) / "log", kills=kills, seed=seed)
        Workspace(studies, AppSettings(study_labels="ignore"))  # the site must still open
    Console().print(table_of([vars(seen)], "Scoring under kill -9"))
    write_rows(ROWS, [vars(seen)])


if __name__ == "__main__":
    typer.run(main)
