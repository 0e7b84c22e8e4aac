"""Rows of the candidates and of the chosen cases: volumes, damage, rarity and difference; and back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.label_efficiency.evidence.cells import Cell
from benchmarks.label_efficiency.evidence.pool import LabelledPool
from benchmarks.label_efficiency.evidence.rows import Read, Row
from benchmarks.label_efficiency.evidence.scores import Knowledge
from lib.runtime.progress import OnProgress


@dataclass(frozen=True)
class Candidate:
    """Size of a case's lesion, and the pool's truth about the case; no strategy sees these.

    Attributes:
        id: Id of the case.
        voxels: Voxels of the lesion on the case's grid.
        volume_ml: Volume of the lesion in ml.
        damage: Damage of the scans; empty if there is none or none is known.
        rare: Whether the case is rare; false if that is not known.
    """

    id: str
    voxels: int
    volume_ml: float
    damage: str
    rare: bool


def described(pool: LabelledPool, tell: OnProgress) -> dict[str, Candidate]:
    """Every candidate by id; candidates and test patients that are not prepared yet are prepared."""
    found = {}
    for done, id in enumerate((*pool.candidates, *pool.tested)):
        tell(done / (len(pool.candidates) + len(pool.tested)), "preparing cases")
        (case,) = pool.load([id])
        voxels = int((case.label > 0).sum())
        volume = voxels * float(np.prod(case.prepared.grid.spacing)) / 1000.0
        truth = pool.truth.get(id, {})
        found[id] = Candidate(id, voxels, volume, truth.get("damage", ""), truth.get("rare") == "1")
    return {id: found[id] for id in pool.candidates}


def rows_of_cases(
    cases: Mapping[str, Candidate], known: Mapping[bool, Knowledge], *, split: int
) -> Iterator[Row]:
    """One row per candidate of a division."""
    of = known[True].candidates
    difference = dict(zip(of.ids, of.difference.tolist(), strict=True))
    suspects = set(of.named(of.suspects()))
    for case in cases.values():
        yield {
            "split": split,
            "case": case.id,
            "served": int(case.id in difference),
            "difference": f"{difference[case.id]:.4f}" if case.id in difference else "",
            "suspect": int(case.id in suspects),
            "volume_ml": round(case.volume_ml, 3),
            "voxels": case.voxels,
            "damage": case.damage,
            "rare": int(case.rare),
        }


def rows_of_cells(
    cells: Sequence[Cell], cases: Mapping[str, Candidate], known: Mapping[bool, Knowledge], *, digest: str
) -> Iterator[Row]:
    """One row per cell, with means and sums over the chosen cases."""
    difference = {
        check: dict(zip(of.candidates.ids, of.candidates.difference.tolist(), strict=True))
        for check, of in known.items()
    }
    for cell in cells:
        chosen = [cases[id] for id in cell.chosen]
        yield {
            "split": cell.split,
            "digest": digest,
            "check": int(cell.check),
            "strategy": cell.strategy,
            "budget": cell.budget,
            "seed": cell.seed,
            "subset": cell.subset,
            "mean_md": round(float(np.mean([difference[cell.check][id] for id in cell.chosen])), 4),
            "volume_ml": round(float(np.mean([case.volume_ml for case in chosen])), 3),
            "voxels": sum(case.voxels for case in chosen),
            "damaged": sum(bool(case.damage) for case in chosen),
            "rare": sum(case.rare for case in chosen),
            "cases": " ".join(cell.chosen),
        }


def cells_of_rows(rows: Read) -> list[Cell]:
    """The cells that `rows_of_cells` wrote."""
    return [
        Cell(
            bool(int(row["check"])), row["strategy"], int(row["budget"]), int(row["seed"]),
            tuple(row["cases"].split()), int(row["split"]),
        )
        for row in rows
    ]  # fmt: skip
