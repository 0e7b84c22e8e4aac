"""Which case of a plan lies nearest to another."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from lib.plan.scores import unpacked


class Neighbourhood:
    """Where the cases of one plan lie."""

    def __init__(self, features: Mapping[str, bytes]) -> None:
        """Unpack the stored features of each case."""
        ids = sorted(features)  # so that ties break by case id
        self._ids = ids
        self._row = {id: row for row, id in enumerate(ids)}
        self._points = np.stack([unpacked(features[id]) for id in ids]) if ids else np.empty((0, 0))  # (N, F)

    def nearest(self, case_id: str, among: Iterable[str]) -> tuple[str, float] | None:
        """The nearest other case and its Euclidean distance; None where nothing is known of either."""
        place = self._row.get(case_id)
        rows = sorted(self._row[id] for id in among if id in self._row and id != case_id)
        if place is None or not rows:
            return None
        distances = np.linalg.norm(self._points[rows] - self._points[place], axis=1)
        best = int(distances.argmin())
        return self._ids[rows[best]], float(distances[best])
