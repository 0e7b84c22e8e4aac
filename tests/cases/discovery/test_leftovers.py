"""Every file is used or named as skipped, whatever else lies in the folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from lib.cases.discovery.file_stamps import tree_stamp
from lib.cases.discovery.found_pool import FoundPool
from lib.cases.discovery.layouts import find_pool
from lib.cases.discovery.studies import is_no_study
from lib.cases.pool import Pool
from tests.support.mixed_trees import MIXED, touch, used_files, visible_files, write_clutter


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "studies").mkdir()
    return tmp_path / "studies"


@pytest.mark.parametrize(
    ("layout", "given"),
    [*((layout, "auto") for layout in MIXED), ("folder", "folder"), ("nnunet", "nnunet"), ("dicom", "dicom")],
)
def test_every_file_of_a_mixed_folder_is_used_or_named_as_skipped(
    layout: str, given: str, root: Path
) -> None:
    write_clutter(root)
    MIXED[layout](root)
    pool = find_pool(root, layout=given)
    assert pool.layout == layout
    assert bool(pool.cases) == (layout != "none")
    assert_every_file_is_accounted_for(root, pool)


def test_every_file_beside_a_damaged_dataset_json_is_named(root: Path) -> None:
    write_clutter(root)
    MIXED["nnunet"](root)
    (root / "dataset.json").write_text("{")
    pool = find_pool(root)
    assert pool.cases == ()
    assert_every_file_is_accounted_for(root, pool)


def assert_every_file_is_accounted_for(root: Path, pool: Pool) -> None:
    used, skipped = used_files(pool), {item.path for item in pool.skipped}
    files = visible_files(root)
    described = {root / "dataset.json"} & files
    assert len(files) > 200
    assert {path for path in files - used - described if not skipped & {path, *path.parents}} == set()
    assert not used & skipped
    assert all(item.reason.strip() for item in pool.skipped)
    assert root not in skipped  # else one line would stand for everything
    assert len(set(pool.skipped)) == len(pool.skipped)


@pytest.mark.parametrize(
    ("name", "at_root", "exempt"),
    [
        (".mdal", True, True),
        ("._p_T1.nii.gz", False, True),
        ("labels", True, True),
        ("labels", False, False),
        ("datastore_v2.json", True, True),
        ("p1", True, False),
    ],
)
def test_hidden_files_and_the_servers_own_are_neither_used_nor_named(
    name: str, at_root: bool, exempt: bool
) -> None:
    assert is_no_study(name, at_root=at_root) == exempt


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("p1/T1.json", "it describes images"),
        ("p1/T1.mgz", "Convert it"),
        ("p1/T1.png", "it is no image that is read"),
        ("scan.nii.gz", "Keep one layout a folder"),
        ("other/scan.nii.gz", "is not one. Rename it"),
        ("other/IM1", "Keep one layout a folder"),
        ("README", "it is no image that is read"),
        ("other/a.txt", "no image is in it"),
        ("p1/pipe", "a broken link"),
        ("x.dcm", "Keep one layout a folder"),
    ],
)
def test_the_reason_says_what_kind_of_file_it_is(name: str, reason: str, tmp_path: Path) -> None:
    touch(tmp_path / "p1" / "T2.nii.gz")
    if name == "p1/pipe":
        (tmp_path / name).symlink_to("nowhere")
    else:
        touch(tmp_path / name)
    (item,) = find_pool(tmp_path).skipped
    assert item.path in (tmp_path / name, (tmp_path / name).parent)
    assert reason in item.reason


def test_a_folder_of_patients_that_are_links_is_read_and_links_deeper_down_are_named(tmp_path: Path) -> None:
    touch(tmp_path / "store" / "p1" / "T1.nii.gz")
    root = tmp_path / "studies"
    (root / "p2" / "s").mkdir(parents=True)
    (root / "p1").symlink_to(tmp_path / "store" / "p1")
    touch(root / "p2" / "CT.nii.gz")
    (root / "p2" / "s" / "p1").symlink_to(tmp_path / "store" / "p1")
    pool = find_pool(root, follow_links=True)
    assert list(pool.by_id) == ["p1", "p2"]
    assert [(item.path.name, "not followed" in item.reason) for item in pool.skipped] == [("p1", True)]


@pytest.mark.parametrize("name", ["IM0001", "1.dcm"])
def test_a_dicom_file_outside_a_patients_folder_says_so(name: str, tmp_path: Path) -> None:
    touch(tmp_path / name).write_bytes(bytes(128) + b"DICM")
    (item,) = find_pool(tmp_path).skipped
    assert "must lie in a folder of its patient" in item.reason


def test_a_file_that_arrives_and_is_not_used_is_named_at_the_next_look(tmp_path: Path) -> None:
    touch(tmp_path / "p1" / "T1.nii.gz")
    found = FoundPool(lambda: find_pool(tmp_path), lambda: tree_stamp(tmp_path), where=str(tmp_path))
    touch(tmp_path / "p1" / "wibble.nii.gz")
    assert not found.refresh(["T1"])
    assert [item.path.name for item in found.pool.skipped] == ["wibble.nii.gz"]
