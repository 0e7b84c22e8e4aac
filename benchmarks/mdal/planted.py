"""Does the modality difference find cases whose modalities do not belong together?

    python -m benchmarks.mdal.planted POOL --draws 10

In each draw one modality of five random patients is replaced by that of another patient (or damaged). These
patients are released from the pool check, and the pool is scored from scratch. In the arm `renamed` only the
names of the patients change, and the differences must stay the same. Rows are written as they come, and an
interrupted run resumes.
"""

from __future__ import annotations

import csv
import shutil
import tempfile
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Table
from scipy.stats import rankdata

from benchmarks.common.damage import damaged
from benchmarks.common.folders import RESULTS
from lib.cases.case import Case
from lib.cases.discovery.layouts import find_pool
from lib.pipeline.planning import plan_pool
from lib.pipeline.settings import read_settings
from lib.pipeline.workspace import Workspace
from lib.plan.scores import CaseScore
from lib.runtime.devices import cores

ROWS = RESULTS / "planted.csv"
COLUMNS = ("arm", "draw", "case", "modality", "change", "detail", "rank", "of", "difference", "seconds")
ARMS = {
    "exchanged": ("other patient, regridded",),
    "damaged": ("mirrored left-right", "shift of voxels"),
}
PLANTED = 5
TOP = 0.2


def main(
    pool: Annotated[Path, typer.Argument(help="Folder of at least 20 patients, one folder each.")],
    draws: Annotated[int, typer.Option(help="Draws of each arm.")] = 10,
    seed: Annotated[int, typer.Option(help="Seed of the draws.")] = 0,
    arms: Annotated[str, typer.Option(help="Arms, separated by commas.")] = "exchanged,renamed,damaged",
) -> None:
    """Score pools with planted cases and print where they rank."""
    done = {(row["arm"], int(row["draw"])) for row in _rows()}
    for arm in arms.split(","):
        for draw in range(1 if arm == "renamed" else draws):
            if (arm, draw) not in done:
                _write(_renamed(pool) if arm == "renamed" else _draw(pool, arm, draw, seed))
    report()


def report() -> None:
    """Print the table from the file of rows."""
    rows, table = _rows(), Table(title="Planted cases in the top fifth of the modality difference")
    for column in ("arm", "change", "draws", "cases", "in the top fifth", "median rank", "of"):
        table.add_column(column)
    for arm, changes in ARMS.items():
        for change in (*changes, "all") if len(changes) > 1 else changes:
            found = [row for row in rows if row["arm"] == arm and change in (row["change"], "all")]
            if found:
                ranks = np.array([float(row["rank"]) for row in found])
                of = int(found[0]["of"])
                top = int((ranks <= TOP * of).sum())
                draws = len({row["draw"] for row in found})
                table.add_row(
                    arm, change, str(draws), str(len(found)), f"{top} ({top / len(found):.0%})",
                    f"{np.median(ranks):.0f}", str(of),
                )  # fmt: skip
    console = Console()
    console.print(table)
    for row in rows:
        if row["arm"] == "renamed":
            console.print(
                f"patients renamed: largest change of a case's difference {float(row['difference']):.3g} "
                f"over {row['of']} cases"
            )


def _draw(pool: Path, arm: str, draw: int, seed: int) -> list[dict[str, object]]:
    """One row per planted case, with its rank; five cases are planted."""
    rng = np.random.default_rng([seed, draw])
    cases = find_pool(pool).cases
    order = rng.permutation(len(cases))
    with tempfile.TemporaryDirectory() as folder:
        studies = Path(folder) / "studies"
        shutil.copytree(pool, studies, ignore=shutil.ignore_patterns(".mdal"))
        planted = []
        for place in range(PLANTED):
            case, donor = cases[order[place]], cases[order[PLANTED + place]]
            modality, change = str(rng.choice(list(case.modalities))), str(rng.choice(ARMS[arm]))
            copy = damaged(change, case, modality, donor, rng, Path(folder))
            target = studies / case.modalities[modality].path.relative_to(pool.resolve())
            copy.case.modalities[modality].path.replace(target)
            planted.append((case, modality, change, copy.detail))
        scores, seconds = _score(studies, Path(folder) / "work", [case for case, *_ in planted])
    ids = sorted(scores)
    whole = {id: float(scores[id].details["difference_of_whole_case"]) for id in ids}
    ranks = rankdata([-whole[id] for id in ids])
    return [
        dict(zip(COLUMNS, (arm, draw, case.id, modality, change, detail, ranks[ids.index(case.id)], len(ids),
                           whole[case.id], round(seconds, 1)), strict=True))
        for case, modality, change, detail in planted
    ]  # fmt: skip


def _renamed(pool: Path) -> list[dict[str, object]]:
    """One row with the largest change of a difference when the patients exchange their names."""
    with tempfile.TemporaryDirectory() as folder:
        plain, renamed = Path(folder) / "plain", Path(folder) / "renamed"
        names = sorted(path.name for path in pool.iterdir() if path.is_dir() and path.name != ".mdal")
        for old, new in zip(names, reversed(names), strict=True):
            shutil.copytree(pool / old, plain / old)
            shutil.copytree(pool / old, renamed / new)
        first, seconds = _score(plain, Path(folder) / "a", [])
        second, _ = _score(renamed, Path(folder) / "b", [])
        partner = dict(zip(names, reversed(names), strict=True))
        change = max(
            abs(float(score.difference or 0.0) - float(second[partner[id]].difference or 0.0))
            for id, score in first.items()
        )
    values = ("renamed", 0, "all", "", "names reversed", "", "", len(first), change, round(seconds, 1))
    return [dict(zip(COLUMNS, values, strict=True))]


def _score(studies: Path, work: Path, planted: list[Case]) -> tuple[dict[str, CaseScore], float]:
    start = time.monotonic()
    released = ",".join(case.id for case in planted)
    workspace = Workspace(studies, read_settings({"work_dir": str(work), "released": released}))
    plan_pool(workspace, processes=cores())
    return dict(workspace.plan.scores()), time.monotonic() - start


def _rows() -> list[dict[str, str]]:
    if not ROWS.exists():
        return []
    with ROWS.open() as stream:
        return list(csv.DictReader(stream))


def _write(rows: list[dict[str, object]]) -> None:
    new = not ROWS.exists()
    with ROWS.open("a", newline="") as stream:
        writer = csv.DictWriter(stream, COLUMNS)
        if new:
            writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    typer.run(main)
