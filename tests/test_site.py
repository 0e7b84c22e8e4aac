"""Studies come, change and go while a server runs."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from lib.cases.case import CaseError
from lib.datastores.local import CaseDatastore
from lib.settings import AppSettings
from lib.site import Site, release_modalities
from tests.conftest import SAMPLES

Samples = Callable[..., Path]


def ids(site: Site) -> list[str]:
    return [case.id for case in site.served]


def test_a_study_that_arrives_is_served_and_one_that_goes_is_not(samples: Samples) -> None:
    studies = samples("STS_002", "STS_008")
    site = Site(studies, AppSettings())
    datastore, before = CaseDatastore(site), site.fingerprint()
    assert not site.refresh()
    assert datastore.labelled() == {"STS_002", "STS_008"}
    shutil.copytree(SAMPLES / "STS_025", studies / "STS_025")
    shutil.rmtree(studies / "STS_008")
    assert site.refresh()
    assert not site.refresh()
    assert ids(site) == ["STS_002", "STS_025"]
    assert datastore.labelled() == {"STS_002", "STS_025"}
    assert site.fingerprint() != before  # a plan of before is not current any more


def test_what_the_check_held_back_stays_back_until_the_next_check(samples: Samples) -> None:
    studies = samples("STS_002", "STS_008")
    (studies / "STS_008" / "CT.nii.gz").write_bytes(b"nothing")
    site = Site(studies, AppSettings(workers=1))
    site.check()
    assert ids(site) == ["STS_002"]
    shutil.copytree(SAMPLES / "STS_025", studies / "STS_025")
    shutil.copyfile(SAMPLES / "STS_008" / "CT.nii.gz", studies / "STS_008" / "CT.nii.gz")
    assert site.refresh()
    assert ids(site) == ["STS_002", "STS_025"]
    assert not site.recall_check()
    site.check()
    assert ids(site) == ["STS_002", "STS_008", "STS_025"]


def test_a_study_that_is_being_copied_is_taken_once_it_looks_the_same_twice(samples: Samples) -> None:
    studies = samples("STS_002")
    site = Site(studies, AppSettings())
    whole = (SAMPLES / "STS_025" / "CT.nii.gz").read_bytes()
    (studies / "STS_025").mkdir()
    for part in (1000, 2000, len(whole)):
        (studies / "STS_025" / "CT.nii.gz").write_bytes(whole[:part])
        assert not site.refresh(settled=True)
    assert ids(site) == ["STS_002"]
    assert site.refresh(settled=True)
    assert ids(site) == ["STS_002", "STS_025"]
    assert not site.refresh(settled=True)


def test_a_file_that_changes_in_its_place_is_a_change(samples: Samples) -> None:
    studies = samples("STS_002", "STS_008")
    site = Site(studies, AppSettings())
    shutil.copyfile(SAMPLES / "STS_025" / "CT.nii.gz", studies / "STS_008" / "CT.nii.gz")
    assert site.refresh()
    assert not site.refresh()


def test_a_label_that_comes_beside_the_images_counts_and_calls_for_no_check(samples: Samples) -> None:
    studies = samples("STS_002", "STS_008")
    label = studies / "STS_008" / "GTV.nii.gz"
    shutil.move(label, studies.parent / label.name)
    site = Site(studies, AppSettings())
    datastore = CaseDatastore(site)
    assert datastore.labelled() == {"STS_002"}
    shutil.move(studies.parent / label.name, label)
    assert not site.refresh()
    assert datastore.labelled() == {"STS_002", "STS_008"}


def test_a_folder_that_is_suddenly_empty_takes_no_case_away(samples: Samples) -> None:
    studies = samples("STS_002", "STS_008")
    site = Site(studies, AppSettings())
    for id in ("STS_002", "STS_008"):
        shutil.move(studies / id, studies.parent / id)
    for _ in range(2):
        with pytest.raises(CaseError, match=r"none is left under .*The 2 of before stay listed"):
            site.refresh()
    assert ids(site) == ["STS_002", "STS_008"]
    for id in ("STS_002", "STS_008"):
        shutil.move(studies.parent / id, studies / id)
    assert not site.refresh()


def test_a_modality_that_is_new_to_the_pool_waits_for_the_next_start(samples: Samples) -> None:
    studies = samples("STS_002", "STS_008")
    for file in studies.glob("*/PET*.nii.gz"):
        file.unlink()
    site = Site(studies, AppSettings())
    preparation = site.preparation
    shutil.copytree(SAMPLES / "STS_025", studies / "STS_025")
    assert site.refresh()
    assert set(site.pool.by_id["STS_025"].modalities) == {"CT", "MR_T1"}
    (skipped,) = (item for item in site.pool.skipped if "new to this pool" in item.reason)
    assert skipped.path.is_relative_to(studies / "STS_025")
    assert site.preparation is preparation
    assert set(Site(studies, AppSettings()).pool.by_id["STS_025"].modalities) == {"CT", "MR_T1", "PET"}


def test_what_a_server_starts_has_the_servers_modalities(
    samples: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    studies = samples("STS_002", "STS_008")
    for file in studies.glob("*/PET*.nii.gz"):
        file.unlink()
    monkeypatch.setattr(os, "environ", dict(os.environ))
    server = Site(studies, AppSettings())
    server.hold_modalities()
    shutil.copytree(SAMPLES / "STS_025", studies / "STS_025")
    assert server.refresh()
    child = Site(studies, AppSettings())
    assert child.fingerprint() == server.fingerprint()
    assert child.preparation == server.preparation
    release_modalities()
    assert "PET" in Site(studies, AppSettings()).pool.modalities
