"""One training and its rows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.label_efficiency.evidence.cells import Cell
from benchmarks.label_efficiency.evidence.pool import LabelledPool
from benchmarks.label_efficiency.evidence.rows import PATIENTS, RUNS, Rows
from benchmarks.label_efficiency.evidence.run import Study, carry_out
from tests.support.made_up_study import protocol


def test_a_run_leaves_a_row_and_one_for_each_test_patient(folder: Path, tmp_path: Path) -> None:
    settings = protocol()
    opened = LabelledPool(folder, settings, tmp_path / "work")
    study = Study(folder, settings, tmp_path / "work", (opened.digest,), "abc")
    training = Cell(True, "uniform", 2, 0, opened.candidates[:2]).training
    first, again = carry_out(study, training), carry_out(study, training)
    assert [row["patient"] for row in first.patients] == list(opened.tested)
    assert first.patients == again.patients  # the same cases and seed: the same network
    assert first.run["dice"] == pytest.approx(np.mean([row["dice"] for row in first.patients]), abs=1e-5)
    other = carry_out(study, replace(training, cases=opened.candidates[2:4]))
    assert other.patients != first.patients
    rows = Rows(tmp_path / "rows")
    rows.finish(first.run, first.patients)
    rows.finish(first.run, first.patients)
    assert rows.finished() == {study.key(training)} == {(opened.digest, training.subset, "0")}
    assert (len(rows.read(RUNS)), len(rows.read(PATIENTS))) == (1, 2)
