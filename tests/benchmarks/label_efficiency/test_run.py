"""The study from its command line."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from benchmarks.label_efficiency.evidence.rows import CELLS, PATIENTS, RUNS
from benchmarks.label_efficiency.run import app
from tests.support.made_up_study import SETTINGS


@pytest.mark.slow
def test_a_run_that_was_cut_does_what_is_left_and_nothing_twice(folder: Path, tmp_path: Path) -> None:
    file, output = tmp_path / "p.yaml", tmp_path / "out"
    small = {"folds": 2, "repeats": 1, "scoring_steps": 2}
    file.write_text(yaml.safe_dump({**SETTINGS, "scoring": small}))
    command = ["run", str(folder), str(file), "--output", str(output), "--strategies", "kmeans"]
    first = CliRunner().invoke(app, [*command, "--budgets", "2"])
    assert first.exit_code == 0, first.output
    assert "2 cells, 2 trainings to run" in first.output
    rows, plan = (output / RUNS).read_text(), (output / CELLS).read_text()
    shutil.rmtree(output / "work")  # what is kept of a run goes on without its scores
    again = CliRunner().invoke(app, command)
    assert "what was chosen is kept" in again.output
    assert "4 cells, 2 trainings to run" in again.output
    assert (output / CELLS).read_text() == plan
    assert (output / RUNS).read_text().startswith(rows)
    assert "| kmeans | 2 of 2 | 2 of 2 |" in (output / "report.md").read_text()
    assert "0 trainings to run" in CliRunner().invoke(app, command).output
    assert len((output / PATIENTS).read_text().splitlines()) == 1 + 4 * 2
    file.write_text(yaml.safe_dump({**SETTINGS, "scoring": {**small, "seed": 1}}))
    other = CliRunner().invoke(app, [*command, "--plan-only"]).output
    assert "what was chosen is kept" not in other, "scores of another protocol are other scores"
