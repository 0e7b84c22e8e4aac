"""`python main.py train STUDIES`."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from lib.ciml.checkpoint import load
from lib.ciml.model_versions import Models
from lib.cli.main import app, main
from lib.pipeline.training_stats import TrainingStats
from tests.conftest import SAMPLES

ROOT = Path(__file__).parents[2]
Train = Callable[..., int]


@pytest.fixture
def studies(tmp_path: Path) -> Path:
    for id in ("STS_025", "STS_008", "STS_042"):
        shutil.copytree(SAMPLES / id, tmp_path / "studies" / id)
    return tmp_path / "studies"


@pytest.fixture
def train(monkeypatch: pytest.MonkeyPatch) -> Train:
    """Run the command in this process: its exit code."""
    torch.set_num_threads(1)

    def run(studies: Path, *options: object) -> int:
        words = ["main.py", "train", str(studies), *map(str, options)]
        monkeypatch.setattr(sys, "argv", words)
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0)

    return run


def said(output: str) -> str:
    """What was printed, without the line breaks of a narrow terminal."""
    return " ".join(output.split())


def test_help_has_an_example() -> None:
    told = CliRunner().invoke(app, ["train", "--help"]).output
    assert "Example: python main.py train samples/sts" in said(told)


def test_a_folder_without_labels_ends_with_a_sentence(
    studies: Path, train: Train, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(studies, "--conf", "study_labels=ignore") == 2
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
    listening = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # a shell's background job ignores it
    words, stats = command(studies, "--epochs", 2), TrainingStats(studies / ".mdal" / "model")
    options = {"cwd": ROOT, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen(words, **options, start_new_session=True, preexec_fn=listening) as running:  # noqa: PLW1509
        until = time.monotonic() + 240
        while stats.read().get("epoch", 0) < 1:
            assert running.poll() is None, running.stdout.read()
            assert time.monotonic() < until
            time.sleep(0.2)
        os.killpg(running.pid, signal.SIGINT)  # as a terminal does
        told = said(running.communicate(timeout=60)[0])
    assert running.returncode == 130
    assert "the next run goes on after the last whole epoch" in told
    assert "Traceback" not in told
    assert stats.read()["state"] == "stopped"
    assert not list(studies.rglob(".part-*"))
    ended = subprocess.run(words, **options, check=False)
    assert ended.returncode == 0, ended.stdout
    assert "published" in ended.stdout
    assert trained_epochs(studies) == [1, 2]  # the first was not trained again
