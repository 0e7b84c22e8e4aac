"""The pool check fails closed: what was held back stays back, and nothing unchecked is served."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from lib.app import MdalCimlApp
from lib.cases.formats.image import read_volume
from lib.cases.quality.verdicts import Quarantined
from lib.pipeline.settings import AppSettings
from lib.pipeline.workspace import Workspace
from lib.server.study_watcher import StudyWatcher
from lib.views.documents.pool_check import pool_check
from lib.views.documents.today import today_document
from tests.conftest import SAMPLES
from tests.support.images import write_image, write_series

Samples = Callable[..., Path]


@pytest.fixture
def studies(tmp_path: Path) -> Path:
    """Three tiny cases, of which `bad` holds nothing."""
    for number, name in enumerate(("bad", "good", "well")):
        write_image(tmp_path / "studies" / name / "CT.nii.gz", seed=number)
    (tmp_path / "studies" / "bad" / "CT.nii.gz").write_bytes(b"nothing")
    return tmp_path / "studies"


def opened(studies: Path) -> Workspace:
    """As a server or another process that starts now sees it."""
    return Workspace(studies, AppSettings(workers=1))


def served(workspace: Workspace) -> list[str]:
    return [case.id for case in workspace.verdicts.served]


def test_a_case_that_was_held_back_is_held_back_at_the_next_start_though_another_one_came(
    studies: Path,
) -> None:
    opened(studies).check()
    write_image(studies / "new" / "CT.nii.gz", seed=9)
    workspace = opened(studies)
    assert not workspace.recall_check()
    assert served(workspace) == ["good", "new", "well"]
    with pytest.raises(Quarantined, match="case bad is quarantined"):
        workspace.verdicts.resolve("bad")


def test_after_a_failed_check_nothing_unchecked_is_served_here_or_at_the_next_start(studies: Path) -> None:
    opened(studies).check()
    write_image(studies / "new" / "CT.nii.gz", seed=9)
    write_image(studies / "well" / "CT.nii.gz", seed=10)
    here = opened(studies)
    here.verdicts.fail("The pool check failed.")
    for workspace in (here, opened(studies)):
        assert served(workspace) == ["good"]
        assert not workspace.recall_check()
        assert workspace.verdicts.trouble.endswith("Not checked and held back until then: 2 cases.")
        with pytest.raises(
            Quarantined, match=r"case new must be checked before it is served. The pool check"
        ):
            workspace.verdicts.resolve("new")
    here.check()
    for workspace in (here, opened(studies)):
        assert served(workspace) == ["good", "new", "well"]
        assert workspace.verdicts.trouble == ""


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe\x00",
        b"[]",
        b"null",
        b'{"of": "x"}',
        b"[" * 100_000,
        b'{"of":"x","cases":[]}',
        b'{"of":"x","cases":{"bad":1}}',
        b'{"of":"x","cases":{"bad":{"status":"ok"}}}',
        b'{"of":"x","cases":{"bad":{"status":"ok","findings":[{"wibble":1}]}}}',
    ],
    ids=range(10),
)
def test_a_damaged_result_serves_nothing_until_the_pool_is_checked_again(
    studies: Path, content: bytes
) -> None:
    running = opened(studies)
    running.check()
    (running.folders.work / "check.json").write_bytes(content)
    workspace = opened(studies)
    assert served(workspace) == []
    assert "cannot be read" in workspace.verdicts.trouble
    assert not running.recall_check()
    assert served(running) == ["good", "well"]  # it knows the verdicts
    workspace.check()
    assert served(opened(studies)) == ["good", "well"]


def test_a_result_of_the_release_before_is_taken(studies: Path) -> None:
    workspace = opened(studies)
    workspace.check()
    document = json.loads((workspace.folders.work / "check.json").read_text())
    for row in document["cases"].values():
        del row["stamp"]
    del document["failed"]
    (workspace.folders.work / "check.json").write_text(json.dumps(document))
    assert opened(studies).recall_check()


def ended(returncode: int) -> Callable[[Workspace], subprocess.CompletedProcess[str]]:
    return lambda workspace: subprocess.CompletedProcess([], returncode, "a traceback")


def in_this_process(workspace: Workspace) -> subprocess.CompletedProcess[str]:
    opened(workspace.folders.studies).check()
    return subprocess.CompletedProcess([], 0, "")


def cannot_start(workspace: Workspace) -> subprocess.CompletedProcess[str]:
    raise OSError("no memory")


@pytest.mark.parametrize(
    "failing", [ended(1), ended(-9), cannot_start], ids=["error", "killed", "not started"]
)
def test_a_server_whose_check_fails_serves_nothing_and_says_why_until_one_succeeds(
    studies: Path, tmp_path: Path, failing: Any
) -> None:
    app = MdalCimlApp(str(tmp_path), str(studies), {})
    StudyWatcher(app.workspace, on_checked=lambda: pytest.fail("it failed"), run_check=failing).check()
    assert app.datastore().list_images() == []
    assert app.next_sample({"strategy": "uniform"}) == {}
    assert "The pool check failed" in app.info()["check"]
    assert "The pool check failed" in app._trouble()
    assert pool_check(app.workspace)["state"] == "failed"
    assert "The pool check failed" in str(today_document(app.workspace, "ann")["empty"])
    told: list[bool] = []
    StudyWatcher(app.workspace, on_checked=lambda: told.append(True), run_check=in_this_process).check()
    assert told == [True]
    assert app.datastore().list_images() == ["good", "well"]
    assert "check" not in app.info()
    assert app.next_sample({"strategy": "uniform"})["id"] in ("good", "well")


def poison(folder: Path) -> None:
    """Cases of every kind of damage beside the real ones."""
    source = next(iter(opened(SAMPLES).pool.by_id["STS_002"].modalities.items()))[1]
    volume = read_volume(source)
    high = volume.array.copy()
    high.flat[7] = 1e38
    for name, array, affine in (
        ("voxel", high, volume.grid.affine),
        ("spacing", volume.array, np.diag([3e4, 3e4, 3e4, 1.0])),
    ):
        (folder / name).mkdir()
        nib.Nifti1Image(array.T, affine).to_filename(folder / name / "CT.nii.gz")
    for name, content in {"text": b"nothing", "empty": b"", "magic": b"\x1f\x8b\x08" + bytes(100)}.items():
        (folder / name).mkdir()
        (folder / name / "CT.nii.gz").write_bytes(content)
    (folder / "nrrd").mkdir()
    (folder / "nrrd" / "CT.nrrd").write_bytes(
        b"NRRD0004\ntype: short\ndimension: 3\nspace: left-posterior-superior\nsizes: 2 2 2\n"
        b"space directions: (1e300,0,0) (0,1e300,0) (0,0,1e300)\nendian: little\nencoding: raw\n\n"
        + bytes(16)
    )
    (folder / "loop").symlink_to(folder / "loop")
    (folder / "none").mkdir()
    write_series(folder / "slices", modality="CT", description="", study="1.2", PixelSpacing=[0, 976562])


def test_poisoned_neighbours_change_no_verdict_and_sts_019_stays_back_throughout(samples: Samples) -> None:
    real = ("STS_002", "STS_008", "STS_012", "STS_015", "STS_018", "STS_019")
    studies = samples(*real)
    workspace = opened(studies)
    workspace.check()
    alone = dict(workspace.verdicts.by_case)
    assert alone["STS_019"].status == "quarantined"
    poison(studies)
    for seen in (opened(studies), workspace):
        seen.refresh()
        assert "STS_019" in seen.verdicts.quarantined
    workspace = opened(studies)
    workspace.verdicts.fail("The pool check failed.")
    assert set(served(workspace)) == set(real) - {"STS_019"}
    workspace.check()
    for seen in (workspace, opened(studies)):
        assert {id: seen.verdicts.by_case[id] for id in real} == alone
        assert set(served(seen)) == set(real) - {"STS_019"}
    (workspace.folders.work / "check.json").write_bytes(b"{")
    assert "STS_019" not in served(opened(studies))
    shutil.rmtree(studies / "voxel")
    workspace.refresh()
    workspace.recall_check()
    assert "STS_019" not in served(workspace)
