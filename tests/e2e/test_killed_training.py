"""Training under kill -9."""

from pathlib import Path

import pytest

from benchmarks.server.killed_training import measure


@pytest.mark.slow
@pytest.mark.e2e
def test_a_killed_training_goes_on_and_ends_where_an_uninterrupted_one_does(tmp_path: Path) -> None:
    seen = measure(tmp_path, kills=3, seeds=1, epochs=2, seed=2, steps=3)
    assert seen.kills == 3
    assert seen.unreadable == seen.worse == 0
    assert seen.repeated <= seen.kills
    assert seen.difference == 0.0  # the same seed: to the bit, on one thread
