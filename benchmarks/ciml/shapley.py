"""Does what a modality accounts for foretell the Dice that is lost without it?

    python -m benchmarks.ciml.shapley POOL PROTOCOL --keep DIR --jobs 2
    python -m benchmarks.ciml.shapley

CIML is trained as PROTOCOL says, a file of `benchmarks.ciml.fusion`, with its largest number of labels;
networks that lie in DIR already are not trained anew. For every test patient and modality a row has the
Shapley value, which needs no contour, and by the contour the Dice that is lost without the modality and the
Shapley value of the Dice itself. Each finished training adds its rows, so an interrupted run resumes.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import as_completed
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from scipy.stats import spearmanr

from benchmarks.ciml.fusion.run import Study, ciml_of, study_of
from benchmarks.common.folders import RESULTS
from benchmarks.common.outlines import dice_by_region
from benchmarks.common.tables import read_rows, table_of, write_rows
from lib.ciml.inference.predict import infer, predict
from lib.ciml.inference.shapley import shapley_of, value_of
from lib.ciml.training.patches import TrainingCase
from lib.runtime.processes import process_pool

ROWS = RESULTS / "shapley.csv"
DRAWS = 2000
Row = dict[str, Any]
console = Console(width=160)


def main(
    pool: Annotated[Path | None, typer.Argument(help="Folder of the cases; without it, report.")] = None,
    protocol: Annotated[Path | None, typer.Argument(help="The protocol, a YAML file.")] = None,
    seeds: Annotated[int, typer.Option(help="Number of seeds: 0, 1 and so on.")] = 3,
    jobs: Annotated[int, typer.Option(help="Processes, of one thread each.")] = 1,
    work: Annotated[Path, typer.Option(help="Folder for prepared cases.")] = Path("work"),
    keep: Annotated[Path | None, typer.Option(help="Folder for trained networks.")] = None,
    rows: Annotated[Path, typer.Option(help="File of the rows.")] = ROWS,
) -> None:
    """Train what has no rows yet, then report.

    Example: python -m benchmarks.ciml.shapley POOL benchmarks/ciml/fusion/brats18.yaml --jobs 2
    """
    if pool is not None and protocol is not None:
        study = study_of(pool, protocol, work=work, keep=keep)
        done = {(row["pool"], int(row["seed"])) for row in read_rows(rows)}
        wanted = [seed for seed in range(seeds) if (study.protocol.name, seed) not in done]
        _carry_out(study, wanted, jobs, rows)
    found = read_rows(rows)
    pools = dict.fromkeys(row["pool"] for row in found)
    console.print(table_of([_summary(name, found) for name in pools], "Test patients", digits=2))


def rows_of(study: Study, seed: int) -> list[Row]:
    """Train a network and judge the Shapley values of its test patients."""
    network, opened = ciml_of(study, seed)
    identity = {"pool": study.protocol.name, "seed": seed, "revision": study.revision}
    return [{**identity, **row} for case in opened.load(opened.tested) for row in patient_rows(network, case)]


def patient_rows(network: Any, case: TrainingCase) -> list[Row]:
    """One row a modality; none if nothing is outlined."""
    start = time.monotonic()
    outlined = infer(network, case.prepared).whole() >= 0.5
    segmented = time.monotonic()
    values = shapley_of(network, case.prepared, outlined)
    seconds = time.monotonic() - segmented
    channels = range(len(network.modalities))
    scores: dict[tuple[int, ...], float] = {(): 0.0}
    for size in range(1, len(channels) + 1):
        for choice in combinations(channels, size):
            present = np.isin(channels, choice)
            probabilities = predict(network, case.prepared, present=present, precision="float32")
            scores[choice] = float(dice_by_region(probabilities, case, network.decomposition).mean())
    whole = tuple(channels)
    return [
        {
            "patient": case.prepared.id,
            "modality": name,
            "shapley": round(values[name], 5),
            "dice": round(scores[whole], 5),
            "lost": round(scores[whole] - scores[tuple(c for c in whole if c != channel)], 5),
            "shapley_of_dice": round(value_of(channel, channels, scores), 5),
            "times_segmentation": round(seconds / (segmented - start), 2),
        }
        for channel, name in enumerate(network.modalities)
        if values
    ]


def _carry_out(study: Study, runs: Sequence[int], jobs: int, path: Path) -> None:
    console.print(f"{len(runs)} trainings of some minutes each, {jobs} at a time; a stopped run resumes")
    start = time.monotonic()
    with process_pool(jobs) as processes:
        coming = [processes.submit(rows_of, study, seed) for seed in runs]
        for number, future in enumerate(as_completed(coming), start=1):
            write_rows(path, [*read_rows(path), *future.result()])
            left = (time.monotonic() - start) / number * (len(runs) - number) / 60.0
            console.print(f"{number} of {len(runs)}; {left:.0f} min left")


def _summary(pool: str, rows: Sequence[Row]) -> Row:
    """Spearman within each seed, averaged; intervals resample the patients."""
    ours = [row for row in rows if row["pool"] == pool]
    patients, rng = sorted({row["patient"] for row in ours}), np.random.default_rng(0)
    draws = [list(rng.choice(patients, len(patients))) for _ in range(DRAWS)]

    def with_interval(column: str) -> str:
        drawn = [_spearman(ours, column, draw) for draw in draws]
        low, high = np.nanquantile(drawn, [0.025, 0.975])
        return f"{_spearman(ours, column, patients):+.2f} [{low:+.2f}, {high:+.2f}]"

    times = [float(row["times_segmentation"]) for row in ours]
    return {
        "pool": pool,
        "seeds": str(len({row["seed"] for row in ours})),
        "patients": str(len(patients)),
        "with the Dice lost without it": with_interval("lost"),
        "with the Shapley value of Dice": with_interval("shapley_of_dice"),
        "time, in segmentations": f"{np.mean(times):.1f}, at most {max(times):.1f}",
    }


def _spearman(rows: Sequence[Row], column: str, patients: Sequence[str]) -> float:
    """Mean over the seeds of Spearman's correlation of the Shapley value with a column."""
    by_seed: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for row in rows:
        pairs = by_seed.setdefault(row["seed"], {}).setdefault(row["patient"], [])
        pairs.append((float(row["shapley"]), float(row[column])))
    found = []
    for of_patient in by_seed.values():
        pairs = [pair for patient in patients for pair in of_patient.get(patient, [])]
        found.append(spearmanr(*zip(*pairs, strict=True)).statistic)
    return float(np.mean(found))


if __name__ == "__main__":
    typer.run(main)
