"""What a modality accounts for against the Dice that is lost without it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.ciml import shapley
from benchmarks.common.tables import read_rows, write_rows
from lib.cases.formats.image import Grid
from lib.cases.preprocessing import PreparedCase
from lib.ciml.decomposition.table import decomposition_for
from lib.ciml.network.ciml_network import CimlNetwork
from lib.ciml.training.patches import TrainingCase

MODALITIES, SIZE = ("MR_T1", "CT", "PET"), (16, 32, 32)


def test_a_patients_rows_sum_to_its_dice() -> None:
    torch.manual_seed(0)
    network = CimlNetwork(decomposition_for(MODALITIES, labels=("lesion",)), MODALITIES).eval()
    label = np.zeros(SIZE, dtype=np.uint8)
    label[4:12, 8:24, 8:24] = 1
    array = np.random.default_rng(0).normal(size=(3, *SIZE)).astype(np.float16)
    here, body = np.ones(3, dtype=bool), np.ones(SIZE, dtype=bool)
    case = TrainingCase(PreparedCase("one", MODALITIES, array, body, here, Grid(SIZE, np.eye(4))), label)
    rows = shapley.patient_rows(network, case)
    assert [row["modality"] for row in rows] == list(MODALITIES)
    assert sum(row["shapley_of_dice"] for row in rows) == pytest.approx(rows[0]["dice"], abs=1e-4)


def test_the_report_correlates_within_each_seed(tmp_path: Path) -> None:
    rows = [
        {
            "pool": pool, "seed": seed, "patient": f"p{patient}", "modality": f"m{modality}",
            "shapley": patient + 0.1 * modality + seed, "dice": 0.5, "lost": -patient - 0.1 * modality,
            "shapley_of_dice": patient + 0.1 * modality, "times_segmentation": 1.5,
        }
        for pool in ("brains", "legs") for seed in (0, 100) for patient in range(5) for modality in range(3)
    ]  # fmt: skip
    write_rows(tmp_path / "rows.csv", rows)
    found = shapley._summary("legs", read_rows(tmp_path / "rows.csv"))
    assert found["with the Dice lost without it"] == "-1.00 [-1.00, -1.00]"
    assert found["with the Shapley value of Dice"] == "+1.00 [+1.00, +1.00]"
