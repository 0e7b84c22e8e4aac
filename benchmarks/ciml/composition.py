"""Do CIML's messages carry what the primary lacks, and not what the primary sees itself?

    python -m benchmarks.ciml.composition
    python -m benchmarks.ciml.composition --seeds 5 --betas 0,0.1
    python -m benchmarks.ciml.composition --report

CIML is reconstructed from its abstract. The images come from the synthetic world of
`benchmarks.ciml.shapes`: two modalities, two subtasks, a square that both modalities show (shared) and a mark
that only the sender shows (private). Both factors are a side, left or right with equal probability. The
square is the larger shape, so shared content is not the harder one to read.

The probe is a logistic regression (standardised, C = 0.01), fitted on 1,200 images that the network never
saw and scored on 600 others. It reads z of every level of a subtask's messages, each averaged over the cells
of a 4 x 4 grid, which is the grid of the bottleneck. Both factors have the same probe, and figures are means
of the two subtasks. z is *drawn* from the posterior, as the decoder received it in training, because the KL
bounds the information of that channel. The mean mu has no noise, so a probe of mu reads content that cost
almost nothing; its accuracy is reported separately as `mu`. There are two controls. `features` is the same
probe on the sender's own features, from which the messages are made; the shared content must be readable
there. With the dial at 1 the mark is not private any more.

beta is the price of the KL, averaged over channels, levels and messages, and over voxels, near and far from
the shapes alike.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import asdict, astuple, fields
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.progress import track

from benchmarks.ciml.composition_measurement import STEPS, Outcome, Setting, measure
from benchmarks.ciml.composition_report import print_tables
from benchmarks.common.folders import RESULTS
from lib.ciml.training.settings import TrainingSettings

ROWS = RESULTS / "composition.csv"
DIAL = "0,0.5,1"
BETAS = "0,0.001,0.01,0.1,0.3,1"


def settings(
    *, seeds: int, betas: Sequence[float], dial: Sequence[float], steps: int = STEPS
) -> Iterator[Setting]:
    """All trainings, seed by seed, so that an interrupted run still fills every row of the table."""
    for seed in range(seeds):
        for redundancy in dial:
            yield Setting("unimodal", 0.0, redundancy, seed, steps)
            yield from (Setting("ciml", beta, redundancy, seed, steps) for beta in betas)


def read_results(path: Path) -> dict[Setting, Outcome]:
    """Results in a CSV by setting; empty if the file does not exist."""
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
    """Append a row; a new file gets the header first."""
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
    betas: Annotated[str, typer.Option(help="Prices per nat, separated by commas.")] = BETAS,
    dial: Annotated[str, typer.Option(help="Probabilities that the primary shows the mark too.")] = DIAL,
    steps: Annotated[int, typer.Option(help="Optimiser steps of a training.", min=1)] = STEPS,
    output: Annotated[Path, typer.Option(help="CSV with one row per training; its rows are kept.")] = ROWS,
    report: Annotated[bool, typer.Option("--report", help="Only print the tables of the CSV.")] = False,
) -> None:
    """Train every setting that is not in the CSV yet, then print its tables.

    Example: python -m benchmarks.ciml.composition --seeds 5 --betas 0,0.001,0.1
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
