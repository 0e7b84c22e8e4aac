"""Are the probabilities calibrated?"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.ciml.calibration import BINS, counts, draw, expected_error
from lib.cases.formats.image import Grid
from lib.cases.preprocessing import PreparedCase
from lib.ciml.training.patches import TrainingCase

SIZE = (20, 30, 30)


def case_with(label: np.ndarray) -> TrainingCase:
    here, body = np.ones(1, dtype=bool), np.ones(SIZE, dtype=bool)
    array = np.zeros((1, *SIZE), dtype=np.float16)
    prepared = PreparedCase("one", ("CT",), array, body, here, Grid(SIZE, np.eye(4)))
    return TrainingCase(prepared, label.astype(np.uint8))


def rows_from(found: np.ndarray) -> list[dict[str, float]]:
    return [
        {"voxels": n, "probability": p / max(n, 1), "lesion": inside / max(n, 1)} for n, p, inside in found
    ]


def test_probabilities_that_come_true_have_no_error_and_others_have_theirs() -> None:
    random = np.random.default_rng(0)
    truth = random.uniform(size=SIZE)
    label = random.uniform(size=SIZE) < truth
    calibrated = counts(truth.astype(np.float32), case_with(label))
    assert calibrated.shape == (BINS, 3)
    assert expected_error(rows_from(calibrated)) < 0.02
    sure = counts(np.where(truth > 0.5, 0.95, 0.05).astype(np.float32), case_with(label))
    assert expected_error(rows_from(sure)) == pytest.approx(0.2, abs=0.02)


def test_only_voxels_near_the_lesion_or_the_outline_count() -> None:
    label = np.zeros(SIZE, dtype=bool)
    label[0, 0, 0] = True
    found = counts(np.zeros(SIZE, dtype=np.float32), case_with(label))
    inside = sum(x * x + y * y + z * z <= 100 for x in range(11) for y in range(11) for z in range(11))
    assert found[:, 0].sum() == inside
    assert found[:, 2].sum() == 1


def test_the_diagram_is_drawn(tmp_path: Path) -> None:
    rows = [
        {"pool": pool, "seed": "0", "voxels": "9", "probability": f"{p}", "lesion": f"{p / 2}"}
        for pool in ("brains", "legs")
        for p in (0.1, 0.5, 0.9)
    ]
    draw(rows, tmp_path / "calibration.png")
    assert (tmp_path / "calibration.png").read_bytes().startswith(b"\x89PNG")
