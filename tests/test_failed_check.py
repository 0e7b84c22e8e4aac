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

import lib.app
from lib.app import MdalCimlApp
from lib.cases.image import read_volume
from lib.overview.pool_check import pool_check
from lib.overview.today import today_document
from lib.settings import AppSettings
from lib.site import Quarantined, Site
from tests.conftest import SAMPLES
from tests.images import write_image, write_series

Samples = Callable[..., Path]


@pytest.fixture
def studies(tmp_path: Path) -> Path:
    """Three tiny cases, of which `bad` holds nothing."""
    for number, name in enumerate(("bad", "good", "well")):
        write_image(tmp_path / "studies" / name / "CT.nii.gz", seed=number)
    (tmp_path / "studies" / "bad" / "CT.nii.gz").write_bytes(b"nothing")
    return tmp_path / "studies"


def opened(studies: Path) -> Site:
    """As a server or another process that starts now sees it."""
    return Site(studies, AppSettings(workers=1))


def served(site: Site) -> list[str]:
    return [case.id for case in site.served]


def test_a_case_that_was_held_back_is_held_back_at_the_next_start_though_another_one_came(
    studies: Path,
) -> None:
    opened(studies).check()
    write_image(studies / "new" / "CT.nii.gz", seed=9)
    site = opened(studies)
    assert not site.recall_check()
    assert served(site) == ["good", "new", "well"]
    with pytest.raises(Quarantined, match="case bad is quarantined"):
        site.resolve("bad")


def test_after_a_failed_check_nothing_unchecked_is_served_here_or_at_the_next_start(studies: Path) -> None:
    opened(studies).check()
    write_image(studies / "new" / "CT.nii.gz", seed=9)
    write_image(studies / "well" / "CT.nii.gz", seed=10)
    here = opened(studies)
    here.check_failed("The pool check failed.")
    for site in (here, opened(studies)):
        assert served(site) == ["good"]
        assert not site.recall_check()
        assert site.check_trouble.endswith("Not checked and held back until then: 2 cases.")
        with pytest.raises(
            Quarantined, match=r"case new must be checked before it is served. The pool check"
        ):
            site.resolve("new")
    here.check()
    for site in (here, opened(studies)):
        assert served(site) == ["good", "new", "well"]
        assert site.check_trouble == ""


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
    (running.work / "check.json").write_bytes(content)
    site = opened(studies)
    assert served(site) == []
    assert "cannot be read" in site.check_trouble
    assert not running.recall_check()
    assert served(running) == ["good", "well"]  # it knows the verdicts
    site.check()
    assert served(opened(studies)) == ["good", "well"]


def test_a_result_of_the_release_before_is_taken(studies: Path) -> None:
    site = opened(studies)
    site.check()
    document = json.loads((site.work / "check.json").read_text())
    for row in document["cases"].values():
        del row["stamp"]
    del document["failed"]
    (site.work / "check.json").write_text(json.dumps(document))
    assert opened(studies).recall_check()


def ended(returncode: int) -> Callable[[Site], subprocess.CompletedProcess[str]]:
    return lambda site: subprocess.CompletedProcess([], returncode, "a traceback")


def in_this_process(site: Site) -> subprocess.CompletedProcess[str]:
    opened(site.studies).check()
    return subprocess.CompletedProcess([], 0, "")


def cannot_start(site: Site) -> subprocess.CompletedProcess[str]:
    raise OSError("no memory")


@pytest.mark.parametrize(
    "failing", [ended(1), ended(-9), cannot_start], ids=["error", "killed", "not started"]
)
def test_a_server_whose_check_fails_serves_nothing_and_says_why_until_one_succeeds(
    studies: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: Any
) -> None:
    app = MdalCimlApp(str(tmp_path), str(studies), {})
    app._auto_update_scoring = False
    monkeypatch.setattr(lib.app, "check_in_background", failing)
    app._check_then_score()
    assert app.datastore().list_images() == []
    assert app.next_sample({"strategy": "uniform"}) == {}
    assert "The pool check failed" in app.info()["check"]
    assert "The pool check failed" in app._trouble()
    assert pool_check(app.site)["state"] == "failed"
    assert "The pool check failed" in str(today_document(app.site, app.datastore(), "ann")["empty"])
    monkeypatch.setattr(lib.app, "check_in_background", in_this_process)
    monkeypatch.setattr(lib.app, "RECHECK_S", 0.0)
    app._start_check()
    app._checking.join()
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
    site = opened(studies)
    site.check()
    alone = dict(site.verdicts)
    assert alone["STS_019"].status == "quarantined"
    poison(studies)
    for seen in (opened(studies), site):
        seen.refresh()
        assert "STS_019" in seen.quarantined
    site = opened(studies)
    site.check_failed("The pool check failed.")
    assert set(served(site)) == set(real) - {"STS_019"}
    site.check()
    for seen in (site, opened(studies)):
        assert {id: seen.verdicts[id] for id in real} == alone
        assert set(served(seen)) == set(real) - {"STS_019"}
    (site.work / "check.json").write_bytes(b"{")
    assert "STS_019" not in served(opened(studies))
    shutil.rmtree(studies / "voxel")
    site.refresh()
    site.recall_check()
    assert "STS_019" not in served(site)
