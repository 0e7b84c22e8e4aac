"""`python main.py train STUDIES`."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from lib.ciml.checkpoint import load
from lib.ciml.model_versions import Models
from lib.cli.main import app
from lib.pipeline.training_stats import TrainingStats
from tests.conftest import SAMPLES
from tests.support.command_line import ROOT, exit_code, press_ctrl_c, said


@pytest.fixture
def studies(tmp_path: Path) -> Path:
    for id in ("STS_025", "STS_008", "STS_042"):
        shutil.copytree(SAMPLES / id, tmp_path / "studies" / id)
    return tmp_path / "studies"


def test_help_has_an_example() -> None:
    told = CliRunner().invoke(app, ["train", "--help"]).output
    assert "Example: python main.py train samples/sts" in said(told)


def test_a_folder_without_labels_ends_with_a_sentence(
    studies: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.set_num_threads(1)
    assert exit_code("train", studies, "--conf", "study_labels=ignore") == 2
    told = said(capsys.readouterr().out)
    assert "training needs final labels of at least 2 patients; there are 0. Label 2 more" in told


def command(*words: object, processes: int = 0) -> list[str]:
    """The command line of a process of its own, or of several under torchrun."""
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    launcher = torchrun if processes else []
    return [sys.executable, *launcher, "main.py", "train", *map(str, words)]


@pytest.mark.slow
@pytest.mark.e2e
def test_two_processes_train_one_network_and_publish_it_once(studies: Path) -> None:
    ended = subprocess.run(
        command(studies, "--epochs", 1, processes=2), cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    told = said(ended.stdout)
    assert "region Dice surface distance" in told.replace("┃ ", "")
    assert told.count("published: It is the first model.") == 1
    assert "Grad strides" not in ended.stdout + ended.stderr
    models = Models(studies / ".mdal" / "model")
    assert [about["version"] for about in models.versions()] == [1]
    assert load(models.current())[1]["settings"]["epochs"] == 1


def trained_epochs(studies: Path) -> list[int]:
    """Epochs whose loss was recorded, in the order of the trainings."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (folder,) = (studies / ".mdal" / "model" / "events").iterdir()
    steps = []
    for file in sorted(folder.iterdir()):
        events = EventAccumulator(str(file))
        events.Reload()
        steps += [event.step for event in events.Scalars("train/loss")] if events.Tags()["scalars"] else []
    return steps


@pytest.mark.slow
@pytest.mark.e2e
def test_ctrl_c_leaves_things_clean_and_the_next_run_goes_on(studies: Path) -> None:
    words, stats = command(studies, "--epochs", 2), TrainingStats(studies / ".mdal" / "model")
    told = press_ctrl_c(words, once=lambda: stats.read().get("epoch", 0) >= 1)
    assert "the next run goes on after the last whole epoch" in told
    assert stats.read()["state"] == "stopped"
    assert not list(studies.rglob(".part-*"))
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    ended = subprocess.run(words, cwd=ROOT, **options, check=False)
    assert ended.returncode == 0, ended.stdout
    assert "published" in ended.stdout
    assert trained_epochs(studies) == [1, 2]  # the first was not trained again
