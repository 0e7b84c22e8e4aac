"""What clients are told of a training, however it ended."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import monailabel
import pytest

from lib.pipeline.training_stats import TrainingStats
from lib.runtime.errors import UserError

RUNNING = {"state": "running", "epoch": 2, "total_epochs": 5, "current_time": 3.0}
SLICER = (
    'current = 0 if train_stats.get("total_time") else train_stats.get("epoch", 1)',
    'total = train_stats.get("total_epochs", 1)',
)
OHIF = (
    "const epochs = ts ? ts.total_time ? 0 : ts.epoch ? ts.epoch : 1 : 0;",
    "const total_epochs = ts && ts.total_epochs ? ts.total_epochs : 1;",
)


def slicer_shows(stats: Mapping[str, Any]) -> float:
    """The share done by Slicer's lines."""
    return (0 if stats.get("total_time") else stats.get("epoch", 1)) / stats.get("total_epochs", 1)


def ohif_shows(stats: Mapping[str, Any]) -> float:
    """The share done by OHIF's lines; at 0 it says `Not Running`."""
    return (0 if stats.get("total_time") else stats.get("epoch") or 1) / (stats.get("total_epochs") or 1)


def test_the_installed_clients_read_these_keys() -> None:
    plugin = Path(sys.prefix) / "monailabel" / "plugins" / "slicer" / "MONAILabel" / "MONAILabel.py"
    (panel,) = (Path(monailabel.__file__).parent / "endpoints" / "static" / "ohif").glob("3933.bundle.*.js")
    for file, lines in ((plugin, SLICER), (panel, OHIF)):
        text = file.read_text()
        assert [line for line in lines if line not in text] == []


def test_clients_show_a_training_only_while_it_runs(tmp_path: Path) -> None:
    stats = TrainingStats(tmp_path)

    def shown() -> tuple[float, float]:
        return slicer_shows(stats.read()), ohif_shows(stats.read())

    assert shown() == (0, 0)  # before the first
    with pytest.raises(UserError), stats.training():
        raise UserError("too few labels")
    assert shown() == (0, 0)
    with stats.training():
        stats.write(RUNNING)
        assert shown() == (0.4, 0.4)
    assert shown() == (0, 0)  # it was killed
    with pytest.raises(ValueError, match="too hot"):
        end_by(ValueError("too hot"), tmp_path)
    assert shown() == (0, 0)


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
    monkeypatch.setattr("lib.pipeline.training_stats.PATIENCE_S", 0.1)
    with (
        TrainingStats(tmp_path).training(),
        pytest.raises(UserError, match="only one training at a time"),
        TrainingStats(tmp_path).training(),
    ):
        pass
    with TrainingStats(tmp_path).training():  # free again
        pass


def test_a_refusal_is_told_beside_what_is_known_of_the_last_training(tmp_path: Path) -> None:
    done = {**RUNNING, "state": "done", "total_time": 9.0}
    TrainingStats(tmp_path).write(done)
    with pytest.raises(UserError), TrainingStats(tmp_path).training():
        raise UserError("too few labels")
    assert TrainingStats(tmp_path).read() == {**done, "state": "failed", "message": "too few labels"}


def test_what_a_killed_training_left_half_written_is_removed_by_the_next(tmp_path: Path) -> None:
    (tmp_path / ".part-x-train_stats.json").touch()
    with TrainingStats(tmp_path).training():
        assert not list(tmp_path.glob(".part-*"))
