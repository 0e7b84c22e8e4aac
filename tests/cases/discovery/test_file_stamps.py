"""Whether a folder of studies is as it was, told without opening a file."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from lib.cases.discovery.file_stamps import tree_stamp


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "studies"
    (root / "p1" / "CT").mkdir(parents=True)
    (root / "p1" / "CT" / "1.dcm").write_bytes(b"1")
    return root


CHANGES: dict[str, Callable[[Path], object]] = {
    "a new file": lambda root: (root / "p1" / "CT" / "2.dcm").write_bytes(b"2"),
    "another size": lambda root: (root / "p1" / "CT" / "1.dcm").write_bytes(b"12"),
    "another time": lambda root: os.utime(root / "p1" / "CT" / "1.dcm", (0, 0)),
    "another name": lambda root: (root / "p1" / "CT").rename(root / "p1" / "MR"),
    "a file that is gone": lambda root: (root / "p1" / "CT" / "1.dcm").unlink(),
}
NO_CHANGES: dict[str, Callable[[Path], object]] = {
    "nothing": lambda _: None,
    "the register": lambda root: (root / "datastore_v2.json").write_text("{}"),
    "a label": lambda root: (root / "labels").mkdir() or (root / "labels" / "p1.nii.gz").touch(),
    "what is hidden": lambda root: (root / ".mdal").mkdir() or (root / ".mdal" / "plan.sqlite").touch(),
    "a link to nowhere": lambda root: (root / "p1" / "gone").symlink_to("nowhere"),
    "a link to itself": lambda root: (root / "p1" / "again").symlink_to(root),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_what_changes_the_studies_changes_the_stamp(root: Path, change: Callable[[Path], object]) -> None:
    before = tree_stamp(root)
    change(root)
    assert tree_stamp(root) != before


@pytest.mark.parametrize("follow_links", [False, True])
@pytest.mark.parametrize("change", NO_CHANGES.values(), ids=NO_CHANGES)
def test_what_does_not_leaves_it(root: Path, change: Callable[[Path], object], follow_links: bool) -> None:
    before = tree_stamp(root, follow_links=follow_links)
    change(root)
    assert tree_stamp(root, follow_links=follow_links) == before


def test_behind_a_link_is_seen_where_links_are_followed(root: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (root / "p2").symlink_to(tmp_path / "elsewhere")
    before, followed = tree_stamp(root), tree_stamp(root, follow_links=True)
    (tmp_path / "elsewhere" / "CT.nii.gz").touch()
    assert tree_stamp(root) == before
    assert tree_stamp(root, follow_links=True) != followed
