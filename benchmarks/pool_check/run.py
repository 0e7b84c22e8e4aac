"""How many damaged cases does the pool check catch, and how many sound ones does it flag?

    python -m benchmarks.pool_check.run samples/sts --reference MR_T1 --copies 8 --seed 0

Each copy is damaged in one modality and judged within the pool of the other, undamaged patients. Patients
that the check already flags when undamaged give no copies. `content` counts the copies that are caught by
grey values alone, without the rules on headers, fields of view and duplicates.
"""

from __future__ import annotations

import csv
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.common.damage import copies
from benchmarks.common.folders import RESULTS
from lib.cases.discovery.layouts import find_pool
from lib.cases.modalities import default_reference
from lib.cases.preprocessing import Preparation
from lib.cases.quality.check import PoolReport, check_pool
from lib.cases.records import Records

NOT_VOXELS = {"grid", "spacing", "extent", "coverage", "no_overlap", "duplicate", "duplicate_image"}


def main(
    pool: Annotated[Path, typer.Argument(help="Studies folder, such as samples/sts.")],
    reference: Annotated[str, typer.Option(help="Modality whose grid is taken.")] = "",
    count: Annotated[int, typer.Option("--copies", help="Damaged copies of each kind.")] = 8,
    seed: Annotated[int, typer.Option(help="Seed of patients, modalities and damage.")] = 0,
    workers: Annotated[int, typer.Option(help="Processes of the check.")] = 2,
    output: Annotated[Path, typer.Option(help="CSV with one row per copy.")] = RESULTS / "pool_check.csv",
) -> None:
    """Count the copies that the pool check catches: python -m benchmarks.pool_check.run samples/sts."""
    console, rng = Console(), np.random.default_rng(seed)
    found = find_pool(pool)
    preparation = Preparation(found.modalities, reference or default_reference(found.modalities))
    caught: dict[str, list[tuple[bool, bool, bool]]] = defaultdict(list)
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, output.open("w", newline="") as file:
        records = Records(Path(folder) / "records.sqlite")
        sound = check_pool(found.cases, preparation, records, workers=workers)
        _print_flagged(console, PoolReport(sound))
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["kind", "case", "modality", "detail", "status", "caught", "content", "reasons"])
        cases = [case for case in found.cases if sound[case.id].status == "ok"]
        for copy in copies(cases, count, rng, Path(folder)):
            others = [case for case in found.cases if case.id != copy.case.id]
            verdict = check_pool([*others, copy.case], preparation, records, workers=1)[copy.case.id]
            codes = [finding.code for finding in verdict.findings if copy.modality in finding.modalities]
            content = bool(set(codes) - NOT_VOXELS)
            caught[copy.kind].append((bool(codes), content, verdict.status == "quarantined"))
            row = [copy.kind, copy.case.id, copy.modality, copy.detail, verdict.status, bool(codes), content]
            rows.writerow([*row, " ".join(sorted(set(codes)))])
            file.flush()
            copy.case.modalities[copy.modality].path.unlink()
    _print_caught(console, caught)


def _print_flagged(console: Console, report: PoolReport) -> None:
    counts = ", ".join(f"{number} {status}" for status, number in report.count().items())
    table = Table("case", "status", "reason", title=f"Undamaged: {counts}")
    for id, verdict in report.verdicts.items():
        for finding in verdict.findings:
            table.add_row(id, verdict.status, finding.sentence)
    console.print(table)


def _print_caught(console: Console, caught: dict[str, list[tuple[bool, bool, bool]]]) -> None:
    table = Table("damage", "caught", "by content", "quarantined", title="Damaged on purpose")
    everything = [row for rows in caught.values() for row in rows]
    for name, rows in [*caught.items(), ("all", everything)]:
        table.add_row(name, *(f"{sum(column)} / {len(rows)}" for column in zip(*rows, strict=True)))
    console.print(table)


if __name__ == "__main__":
    typer.run(main)
