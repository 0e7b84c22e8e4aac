"""Studies come, change and go while a server runs."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from lib.cases.discovery.found_pool import hold_modalities, release_modalities
from lib.pipeline.settings import AppSettings
from lib.pipeline.workspace import Workspace
from lib.runtime.errors import UserError
from lib.server.datastore import CaseDatastore
from tests.conftest import SAMPLES

Samples = Callable[..., Path]


def ids(workspace: Workspace) -> list[str]:
    return [case.id for case in workspace.verdicts.served]


def test_a_study_that_arrives_is_served_and_one_that_goes_is_not(samples: Samples) -> None:
    studies = samples("STS_002", "STS_008")
    workspace = Workspace(studies, AppSettings())
    datastore, before = CaseDatastore(workspace), workspace.fingerprint()
    assert not workspace.refresh()
    assert datastore.labelled() == {"STS_002", "STS_008"}
    shutil.copytree(SAMPLES / "STS_025", studies / "STS_025")
    shutil.rmtree(studies / "STS_008")
    assert workspace.refresh()
    assert not workspace.refresh()
    assert ids(workspace) == ["STS_002", "STS_025"]
    assert datastore.labelled() == {"STS_002", "STS_025"}
    assert workspace.fingerprint() != before  # a plan of before is not current any more


def test_what_the_check_held_back_stays_back_until_the_next_check(samples: Samples) -> None:
    studies = samples("STS_002", "STS_008")
    (studies / "STS_008" / "CT.nii.gz").write_bytes(b"nothing")
    workspace = Workspace(studies, AppSettings(workers=1))
    workspace.check()
    assert ids(workspace) == ["STS_002"]
    shutil.copytree(SAMPLES / "STS_025", studies / "STS_025")
    shutil.copyfile(SAMPLES / "STS_008" / "CT.nii.gz", studies / "STS_008" / "CT.nii.gz")
    assert workspace.refresh()
    assert ids(workspace) == ["STS_002", "STS_025"]
    assert not workspace.recall_check()
    workspace.check()
    assert ids(workspace) == ["STS_002", "STS_008", "STS_025"]


def test_a_study_that_is_being_copied_is_taken_once_it_looks_the_same_twice(samples: Samples) -> None:
    studies = samples("STS_002")
    workspace = Workspace(studies, AppSettings())
    whole = (SAMPLES / "STS_025" / "CT.nii.gz").read_bytes()
    (studies / "STS_025").mkdir()
    for part in (1000, 2000, len(whole)):
        (studies / "STS_025" / "CT.nii.gz").write_bytes(whole[:part])
        assert not workspace.refresh(settled=True)
    assert ids(workspace) == ["STS_002"]
    assert workspace.refresh(settled=True)
    assert ids(workspace) == ["STS_002", "STS_025"]
    assert not workspace.refresh(settled=True)


def test_a_file_that_changes_in_its_place_is_a_change(samples: Samples) -> None:
    studies = samples("STS_002", "STS_008")
    workspace = Workspace(studies, AppSettings())
    shutil.copyfile(SAMPLES / "STS_025" / "CT.nii.gz", studies / "STS_008" / "CT.nii.gz")
    assert workspace.refresh()
    assert not workspace.refresh()


def test_a_label_that_comes_beside_the_images_counts_and_calls_for_no_check(samples: Samples) -> None:
    studies = samples("STS_002", "STS_008")
    label = studies / "STS_008" / "GTV.nii.gz"
    shutil.move(label, studies.parent / label.name)
    workspace = Workspace(studies, AppSettings())
    datastore = CaseDatastore(workspace)
    assert datastore.labelled() == {"STS_002"}
    shutil.move(studies.parent / label.name, label)
    assert not workspace.refresh()
    assert datastore.labelled() == {"STS_002", "STS_008"}


def test_a_folder_that_is_suddenly_empty_takes_no_case_away(samples: Samples) -> None:
    studies = samples("STS_002", "STS_008")
    workspace = Workspace(studies, AppSettings())
    for id in ("STS_002", "STS_008"):
        shutil.move(studies / id, studies.parent / id)
    for _ in range(2):
        with pytest.raises(UserError, match=r"none is left under .*The 2 earlier cases stay listed"):
            workspace.refresh()
    assert ids(workspace) == ["STS_002", "STS_008"]
    for id in ("STS_002", "STS_008"):
        shutil.move(studies.parent / id, studies / id)
    assert not workspace.refresh()


def test_a_modality_that_is_new_to_the_pool_waits_for_the_next_start(samples: Samples) -> None:
    studies = samples("STS_002", "STS_008")
    for file in studies.glob("*/PET*.nii.gz"):
        file.unlink()
    workspace = Workspace(studies, AppSettings())
    preparation = workspace.preparation
    shutil.copytree(SAMPLES / "STS_025", studies / "STS_025")
    assert workspace.refresh()
    assert set(workspace.pool.by_id["STS_025"].modalities) == {"CT", "MR_T1"}
    (skipped,) = (item for item in workspace.pool.skipped if "new to this pool" in item.reason)
    assert skipped.path.is_relative_to(studies / "STS_025")
    assert workspace.preparation is preparation
    assert set(Workspace(studies, AppSettings()).pool.by_id["STS_025"].modalities) == {"CT", "MR_T1", "PET"}


def test_what_a_server_starts_has_the_servers_modalities(samples: Samples) -> None:
    studies = samples("STS_002", "STS_008")
    for file in studies.glob("*/PET*.nii.gz"):
        file.unlink()
    server = Workspace(studies, AppSettings())
    hold_modalities(server.preparation.modalities)
    try:
        shutil.copytree(SAMPLES / "STS_025", studies / "STS_025")
        assert server.refresh()
        child = Workspace(studies, AppSettings())
        assert child.fingerprint() == server.fingerprint()
        assert child.preparation == server.preparation
    finally:
        release_modalities()
    assert "PET" in Workspace(studies, AppSettings()).pool.modalities


def test_the_ct_window_decides_what_an_array_holds(samples: Callable[..., Path]) -> None:
    studies = samples("STS_025")
    usual = Workspace(studies, AppSettings())
    bone = Workspace(studies, AppSettings(ct_window=(-500.0, 1500.0)))
    case = usual.pool.by_id["STS_025"]
    row = usual.preparation.modalities.index("CT")
    assert bone.cache.key(case) != usual.cache.key(case)
    assert bone.cache.get(case).array[row].max() < usual.cache.get(case).array[row].max()
