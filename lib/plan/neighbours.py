"""Nearest neighbours among the cases of a plan."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from lib.plan.scores import unpack_features


class Neighbourhood:
    """Positions of the cases of one plan in feature space."""

    def __init__(self, features: Mapping[str, bytes]) -> None:
        """Unpack the stored features of each case."""
        ids = sorted(features)  # so that ties break by case id
        self._ids = ids
        self._row = {id: row for row, id in enumerate(ids)}
        self._points = (
            np.stack([unpack_features(features[id]) for id in ids]) if ids else np.empty((0, 0))
        )  # (N, F)

    def nearest(self, case_id: str, among: Iterable[str]) -> tuple[str, float] | None:
        """Nearest other case and its Euclidean distance; None if features are missing."""
        place = self._row.get(case_id)
        rows = sorted(self._row[id] for id in among if id in self._row and id != case_id)
        if place is None or not rows:
            return None
        distances = np.linalg.norm(self._points[rows] - self._points[place], axis=1)
        best = int(distances.argmin())
        return self._ids[rows[best]], float(distances[best])
