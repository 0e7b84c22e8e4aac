"""`python main.py segment`: a folder at a time."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
import typer
from typer.testing import CliRunner, Result

from lib.ciml.network.ciml_network import CimlNetwork
from lib.ciml.network.settings import NetworkSettings
from lib.cli.segment import EPILOG, segment
from lib.pipeline.settings import AppSettings
from lib.pipeline.workspace import Workspace

Samples = Callable[..., Path]
SMALL = NetworkSettings(channels=(4, 8), strides=((1, 2, 2), (2, 2, 2)), message_channels=2, message_levels=2)


@pytest.fixture
def studies(samples: Samples) -> Path:
    """Two patients, checked."""
    studies = samples("STS_025", "STS_008")
    Workspace(studies, AppSettings(workers=1)).check()
    return studies


def publish(studies: Path, seed: int = 0) -> None:
    workspace = Workspace(studies, AppSettings())
    torch.manual_seed(seed)
    workspace.models.publish(
        CimlNetwork(workspace.decomposition, workspace.preparation.modalities, SMALL), {}
    )


def run(studies: Path, *options: object) -> Result:
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command(epilog=EPILOG)(segment)
    return CliRunner().invoke(app, [str(studies), *map(str, options)])


def test_each_case_gets_a_label_and_a_row_and_what_is_done_is_skipped(studies: Path, tmp_path: Path) -> None:
    publish(studies)
    output = tmp_path / "out"
    first = run(studies, "--output", output)
    assert first.exit_code == 0, first.output
    assert "2 cases segmented, 0 done already, 0 failed" in " ".join(first.output.split())
    doubted = re.search(
        r"Look first at (\w+) \((\S+)\), (\w+) \((\S+)\): the model", first.output.replace("\n", " ")
    )
    with (output / "summary.csv").open() as stream:
        rows = {row["case"]: row for row in csv.DictReader(stream)}
    assert set(rows) == {"STS_025", "STS_008"}
    shown = {doubted[name]: float(doubted[name + 1]) for name in (1, 3)}
    assert shown == {id: pytest.approx(float(row["uncertainty nats"]), abs=6e-4) for id, row in rows.items()}
    assert list(shown.values()) == sorted(shown.values(), reverse=True)
    for id, row in rows.items():
        label = sitk.ReadImage(str(output / f"{id}.nii.gz"))
        image = sitk.ReadImage(str(studies / id / "MR_T1.nii.gz"))
        assert label.GetSize() == image.GetSize()
        ml = sitk.GetArrayFromImage(label).sum() * np.prod(label.GetSpacing()) / 1000
        assert float(row["lesion ml"]) == pytest.approx(ml, rel=1e-2, abs=1e-3)
        assert row["modalities used"] == "MR_T1 CT PET"
    written = (output / "STS_008.nii.gz").stat().st_mtime_ns
    assert "0 cases segmented, 2 done already" in " ".join(run(studies, "--output", output).output.split())
    assert (output / "STS_008.nii.gz").stat().st_mtime_ns == written
    publish(studies, seed=1)
    assert "2 cases segmented, 0 done" in " ".join(run(studies, "--output", output).output.split())
    assert json.loads((output / "STS_008.json").read_text())["version"] == 2


def test_a_case_that_fails_is_named_with_its_reason_and_the_others_go_on(
    studies: Path, tmp_path: Path
) -> None:
    publish(studies)
    file = studies / "STS_025" / "CT.nii.gz"
    sound = file.read_bytes()
    stat = file.stat()
    file.write_bytes(sound[:2000])
    Workspace(studies, AppSettings(released=("STS_025",), workers=1)).check()
    ended = run(studies, "--output", tmp_path, "--conf", "released=STS_025")
    said = " ".join(ended.output.split())
    assert ended.exit_code == 1
    assert "STS_025 failed" in said
    assert "1 case segmented, 0 done already, 1 failed" in said
    assert (tmp_path / "STS_008.nii.gz").exists()
    assert not (tmp_path / "STS_025.nii.gz").exists()
    assert stat.st_size == len(sound)


def test_without_a_model_a_sentence_says_what_to_do(studies: Path, tmp_path: Path) -> None:
    ended = run(studies, "--output", tmp_path)
    assert ended.exit_code == 1
    assert "a model must have been trained" in str(ended.exception)
    assert "main.py train" in str(ended.exception)


def test_one_case_can_be_asked_for(studies: Path, tmp_path: Path) -> None:
    publish(studies)
    assert run(studies, "--output", tmp_path, "--case", "STS_008").exit_code == 0
    assert sorted(path.name for path in tmp_path.glob("*.nii.gz")) == ["STS_008.nii.gz"]


@pytest.mark.slow
def test_the_explanation_is_written_beside_the_label(studies: Path, tmp_path: Path) -> None:
    publish(studies)
    ended = run(studies, "--output", tmp_path, "--case", "STS_008", "--explain")
    assert ended.exit_code == 0, ended.output
    assert (tmp_path / "STS_008_explain" / "montage.png").exists()
    assert (tmp_path / "STS_008_explain" / "uncertainty.nii.gz").exists()
    assert "sentence" in json.loads((tmp_path / "STS_008.json").read_text())


def test_help_has_an_example(studies: Path) -> None:
    assert "Example: python main.py segment" in run(studies, "--help").output
