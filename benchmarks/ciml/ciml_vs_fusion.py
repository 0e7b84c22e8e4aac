"""CIML against fusion, at equal parameters and on the same patches.

    python -m benchmarks.ciml.ciml_vs_fusion run POOL --seeds 3 --jobs 2 --keep DIR
    python -m benchmarks.ciml.ciml_vs_fusion report

POOL holds at least 16 patients with CT, PET, MR and a contour of the tumour. Fourteen of them, the first by
the SHA-256 of their id, are the test set and are not used before training has ended: the schedule is fixed,
the last weights are taken, and there is no validation. `--split inner` divides the other patients in the same
way; `fusion_run.SCHEDULE` was settled on that split. `benchmarks.ciml.methods` lists the networks that are
compared. `lib.ciml.training.train` trains all of them and `lib.ciml.inference.predict` outlines with all of
them. A seed gives every method the same patches, augmentations and dropped modalities.

Runs are ordered by seed with the methods interleaved, so that an interrupted comparison treats all methods
alike. Each finished run is a row. An interrupted run resumes from its last epoch if `--keep` names a folder
for its state.
"""

from __future__ import annotations

import math
import os
import time
from concurrent.futures import as_completed
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from benchmarks.ciml.fusion_report import print_report
from benchmarks.ciml.fusion_rows import RUNS, Rows
from benchmarks.ciml.fusion_run import (
    NETWORK,
    ORACLE,
    SCHEDULE,
    Comparison,
    Run,
    carry_out,
    oracle_row,
    runs_of,
)
from benchmarks.ciml.methods import METHODS
from benchmarks.common.folders import RESULTS
from benchmarks.common.patients import SETTINGS
from benchmarks.common.revision import git_revision
from lib.ciml.training.train import TrainingSettings
from lib.runtime.processes import process_pool

LONGEST_EPOCH = 50  # steps
console = Console(width=200)
app = typer.Typer(help="CIML against fusion.", no_args_is_help=True)


@app.command()
def run(
    pool: Annotated[Path, typer.Argument(help="Folder with one folder per patient.")],
    seeds: Annotated[int, typer.Option(help="Number of seeds: 0, 1 and so on.")] = 3,
    jobs: Annotated[int, typer.Option(help="Processes, of one thread each.")] = 1,
    steps: Annotated[int, typer.Option(help="Steps of each training; 0 takes the schedule's.")] = 0,
    methods: Annotated[str, typer.Option(help="Methods, separated by commas.")] = ",".join(METHODS),
    settings: Annotated[str, typer.Option(help="Settings, separated by commas.")] = ",".join(SETTINGS),
    split: Annotated[str, typer.Option(help="test, or inner to settle the schedule.")] = "test",
    without: Annotated[str, typer.Option(help="Ids to leave out, separated by commas.")] = "STS_019",
    work: Annotated[Path | None, typer.Option(help="Folder for prepared cases.")] = None,
    keep: Annotated[Path | None, typer.Option(help="Folder for trained networks.")] = None,
    output: Annotated[Path, typer.Option(help="Folder of the rows.")] = RESULTS,
    revision: Annotated[str, typer.Option(help="Revision of the code, outside a git checkout.")] = "",
) -> None:
    """Train and test every run that has no row yet, then report."""
    comparison = Comparison(
        pool.resolve(), work.resolve() if work else None, tuple(filter(None, without.split(","))), split,
        with_steps(SCHEDULE, steps) if steps else SCHEDULE, NETWORK,
        keep.resolve() if keep else None, revision or git_revision(),
    )  # fmt: skip
    rows = Rows(output)
    for setting in settings.split(","):  # so that no two processes prepare the same case
        comparison.patients().load(comparison.patients().cases, setting)
    if Run("", ORACLE, 0).key(comparison) not in rows.done():
        rows.write(oracle_row(comparison))
    wanted = runs_of(tuple(methods.split(",")), tuple(settings.split(",")), seeds)
    failed = _carry_out_all(
        comparison, [each for each in wanted if each.key(comparison) not in rows.done()], rows, jobs
    )
    print_report(rows, console, split=split)
    raise typer.Exit(code=1 if failed else 0)


@app.command()
def report(
    output: Annotated[Path, typer.Option(help="Folder of the rows.")] = RESULTS,
    split: Annotated[str, typer.Option(help="test or inner.")] = "test",
) -> None:
    """Print the tables from the rows alone."""
    print_report(Rows(output), console, split=split)


def with_steps(schedule: TrainingSettings, steps: int) -> TrainingSettings:
    """The schedule with exactly this number of steps, in epochs of at most 50 steps."""
    each = math.gcd(steps, LONGEST_EPOCH)
    return replace(schedule, epochs=steps // each, steps_per_epoch=each)


def _carry_out_all(comparison: Comparison, runs: list[Run], rows: Rows, jobs: int) -> list[Run]:
    """Write each run as it finishes, and return the runs that failed."""
    os.environ["OMP_NUM_THREADS"] = "1"  # inherited by the processes that start below
    failed, start = [], time.monotonic()
    console.print(f"{len(runs)} trainings of some minutes each, {jobs} at a time; a stopped run resumes")
    with process_pool(jobs) as pool:
        coming = {pool.submit(carry_out, comparison, each): each for each in runs}
        for number, future in enumerate(as_completed(coming), start=1):
            each = coming[future]
            try:
                finished = future.result()
            except (ValueError, RuntimeError) as err:
                failed.append(each)
                console.print(f"{number} of {len(runs)}: {each} failed: {err}")
                continue
            rows.write(finished)
            (row,) = finished.rows[RUNS]
            mean = sum(row["dice"].values()) / len(row["dice"])
            left = (time.monotonic() - start) / number * (len(runs) - number) / 60.0
            console.print(
                f"{number} of {len(runs)}: {each} Dice {mean:.3f}, {row['seconds']:.0f} s; "
                f"{left:.0f} min left"
            )
    return failed


if __name__ == "__main__":
    app()
