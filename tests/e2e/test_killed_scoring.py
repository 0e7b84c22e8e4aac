"""Scoring under kill -9."""

from pathlib import Path

import pytest

from benchmarks.server.killed_scoring import kill_scorings
from benchmarks.server.seven_samples import copy_of_samples


@pytest.mark.slow
@pytest.mark.e2e
def test_a_killed_scoring_leaves_the_old_plan_or_the_new_one_and_goes_on(tmp_path: Path) -> None:
    seen = kill_scorings(copy_of_samples(tmp_path / "studies"), tmp_path / "log", kills=4, seed=1)
    assert seen.kills == 4
    assert seen.halves == 0
    assert seen.repeated == 0  # what was trained and kept is never trained again
    assert seen.cut <= seen.kills
