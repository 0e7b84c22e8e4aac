"""What clients are told of a training, however it ended."""

from pathlib import Path

import pytest

from lib.cases.case import CaseError
from lib.training_stats import TrainingStats

RUNNING = {"state": "running", "epoch": 2, "total_epochs": 5, "current_time": 3.0}


def test_a_running_training_is_told_as_it_was_written(tmp_path: Path) -> None:
    with TrainingStats(tmp_path).training():
        TrainingStats(tmp_path).write(RUNNING)
        assert TrainingStats(tmp_path).read() == RUNNING


def test_one_that_nobody_continues_is_told_as_stopped(tmp_path: Path) -> None:
    TrainingStats(tmp_path).write(RUNNING)  # and then it was killed
    stats = TrainingStats(tmp_path).read()
    assert (stats["state"], stats["total_time"]) == ("stopped", 3.0)
    assert "stopped after epoch 2 of 5" in stats["message"]


def end_by(error: BaseException, folder: Path) -> None:
    with TrainingStats(folder).training():
        TrainingStats(folder).write(RUNNING)
        raise error


def test_an_error_and_an_interrupt_are_told_apart(tmp_path: Path) -> None:
    for error, state in ((ValueError("too hot"), "failed"), (KeyboardInterrupt(), "stopped")):
        with pytest.raises(type(error)):
            end_by(error, tmp_path)
        assert TrainingStats(tmp_path).read()["state"] == state


def test_a_second_training_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lib.training_stats._PATIENCE_S", 0.1)
    with (
        TrainingStats(tmp_path).training(),
        pytest.raises(CaseError, match="only one training at a time"),
        TrainingStats(tmp_path).training(),
    ):
        pass
    with TrainingStats(tmp_path).training():  # free again
        pass


def test_a_refusal_is_told_beside_what_is_known_of_the_last_training(tmp_path: Path) -> None:
    done = {**RUNNING, "state": "done", "total_time": 9.0}
    TrainingStats(tmp_path).write(done)
    with pytest.raises(CaseError), TrainingStats(tmp_path).training():
        raise CaseError("too few labels")
    assert TrainingStats(tmp_path).read() == {**done, "state": "failed", "message": "too few labels"}


def test_what_a_killed_training_left_half_written_is_removed_by_the_next(tmp_path: Path) -> None:
    (tmp_path / ".part-x-train_stats.json").touch()
    with TrainingStats(tmp_path).training():
        assert not list(tmp_path.glob(".part-*"))
