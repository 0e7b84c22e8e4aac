"""Modality difference of every place of a planned pool, kept for the pictures of where modalities differ."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from typing_extensions import TypedDict

from lib.cases.boxes import Box
from lib.cases.modalities import kind
from lib.cases.preprocessing import PreparedCase
from lib.mdal.representation.encoder import STRIDE, place_counts
from lib.mdal.representation.positions import position_box
from lib.mdal.representation.views import Shape
from lib.mdal.scoring.place_difference import departure
from lib.mdal.scoring.pmi import Array
from lib.mdal.scoring.pool_places import departure_of_case
from lib.pipeline.workspace import Workspace
from lib.runtime.files import replacing
from lib.runtime.own_files import UNREADABLE, map_array, read_or_set_aside, set_aside

_AIR = -0.9  # of a prepared CT, whose window ends at -1: fat is brighter
_CONSEQUENCE = "Places are marked again after the next scoring."


@dataclass(frozen=True, eq=False)
class PlaceDifferences:
    """Modality difference of every place of the cases of a scored pool.

    Attributes:
        rows: Row of each case id.
        pairs: Pairs of modalities, as `CT/PET`.
        places: Difference of each place in deviations from what is usual there, shape (N, P, places),
            float16, memory-mapped; NaN outside the body and for an absent modality.
        view: Shape (D, H, W) of the views whose places these are.
    """

    rows: dict[str, int]
    pairs: tuple[str, ...]
    places: NDArray[np.float16]
    view: Shape

    @classmethod
    def unknown(cls) -> PlaceDifferences:
        """No place of any case."""
        return cls({}, (), np.empty((0, 0, 0), np.float16), (0, 0, 0))

    def save(self, folder: Path, *, of: str) -> None:
        """Write the places of the plan with the content hash `of`, and remove those of earlier plans."""
        with replacing(folder / f"{of}.npy") as part, part.open("wb") as stream:
            np.save(stream, self.places)
        with replacing(folder / f"{of}.json") as part:
            part.write_text(json.dumps({"ids": list(self.rows), "pairs": self.pairs, "view": self.view}))
        for left in folder.iterdir():
            if left.stem != of:
                left.unlink(missing_ok=True)

    @classmethod
    def load(cls, folder: Path, *, of: str) -> PlaceDifferences:
        """Places of the plan with the content hash `of`; unknown if they are missing or damaged."""
        about = read_or_set_aside(folder / f"{of}.json", _About, consequence=_CONSEQUENCE)
        if about is None:
            return cls.unknown()
        file = folder / f"{of}.npy"
        try:
            places = map_array(file)
            depth, height, width = about["view"]
            view = (depth, height, width)
            expected = len(about["ids"]), len(about["pairs"]), int(np.prod(place_counts(view, STRIDE)))
            if places.shape != expected:
                raise ValueError(f"it must have the shape {expected}; it has {places.shape}")
        except FileNotFoundError:
            return cls.unknown()
        except UNREADABLE as err:
            set_aside(file, f"{err}. {_CONSEQUENCE}")
            return cls.unknown()
        rows = {id: row for row, id in enumerate(about["ids"])}
        return cls(rows, tuple(about["pairs"]), places, view)

    def pairs_of(self, id: str) -> tuple[str, ...]:
        """Pairs of modalities of which any place of a case is known."""
        if id not in self.rows:
            return ()
        known = np.isfinite(self.places[self.rows[id]]).any(axis=1)
        return tuple(pair for pair, is_known in zip(self.pairs, known, strict=True) if is_known)

    def departures(self, rows: NDArray[np.intp], pair: str | None = None) -> Array:
        """How far each place departs from what is usual there, in deviations, shape (n, places).

        Args:
            rows: Rows of the cases.
            pair: Pair of modalities; None for the mean over the pairs of each case.
        """
        counts = place_counts(self.view, STRIDE)
        found = self.places[rows].astype(np.float64)
        if pair is None:
            return departure_of_case(found, counts)
        return departure(found[:, self.pairs.index(pair)], counts)

    def box(self, case: PreparedCase, place: int) -> Box:
        """Part of a case that a place covers."""
        return position_box(place, case.foreground, shape=self.view)

    def falling(self, id: str, pair: str | None = None) -> NDArray[np.intp]:
        """Known places of a case, the one that departs most first; empty if none is known."""
        if id not in self.rows or (pair is not None and pair not in self.pairs):
            return np.empty(0, dtype=np.intp)
        found = self.departures(np.array([self.rows[id]]), pair)[0]
        order = np.argsort(-found, kind="stable")
        return order[: np.isfinite(found).sum()]

    def most_different(self, case: PreparedCase, pair: str | None = None) -> Box | None:
        """Part of a case that departs most, mostly inside the body and not in air; None if not known."""
        boxes = (self.box(case, int(place)) for place in self.falling(case.id, pair))
        return next((box for box in boxes if _is_tissue(case, box)), None)


def _is_tissue(case: PreparedCase, box: Box) -> bool:
    """Whether a box lies mostly in the body, and a CT shows more than air there."""
    if case.foreground[box].mean() < 0.5:
        return False
    return not any(
        here and kind(name) == "CT" and case.array[m][box].mean(dtype=np.float64) < _AIR
        for m, (name, here) in enumerate(zip(case.modalities, case.present, strict=True))
    )


class _About(TypedDict):
    ids: list[str]
    pairs: list[str]
    view: list[int]


def place_differences(workspace: Workspace) -> PlaceDifferences:
    """Places of the newest plan's cases; unknown if there is no plan."""
    plan = workspace.plan.current()
    if plan is None:
        return PlaceDifferences.unknown()
    return _loaded(differences_folder(workspace), plan.content, plan.id)


def differences_folder(workspace: Workspace) -> Path:
    """Folder of the places of a workspace's plan."""
    return workspace.folders.work / "differences"


@lru_cache(maxsize=4)
def _loaded(folder: Path, content: str, plan: int) -> PlaceDifferences:
    return PlaceDifferences.load(folder, of=content)
