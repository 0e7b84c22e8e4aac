"""A label's file and its notes change together, whatever happens while they are written."""

import errno
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import SimpleITK as sitk

from lib.labels.versions import LabelVersion
from lib.server.datastore import CaseDatastore
from tests.support.pools import label_for, open_datastore

Samples = Callable[..., Path]
CASE = "STS_025"
WRITES = ("os.rename", "os.remove", "open")


def first(datastore: CaseDatastore, folder: Path) -> None:
    datastore.save_label(
        CASE, str(label_for(datastore.workspace, CASE, folder / "one.nii.gz")), "final", {"value": 1}
    )


def another_label(datastore: CaseDatastore, path: Path) -> Path:
    image = sitk.ReadImage(str(label_for(datastore.workspace, CASE, path.with_name("one.nii.gz"))))
    image[2, 3, 4] = 1
    sitk.WriteImage(image, str(path))
    return path


def again(datastore: CaseDatastore, folder: Path) -> None:
    file = another_label(datastore, folder / "two.nii.gz")
    datastore.save_label(CASE, str(file), "final", {"value": 2})


def in_another_format(datastore: CaseDatastore, folder: Path) -> None:
    file = another_label(datastore, folder / "two.nrrd")
    datastore.save_label(CASE, str(file), "final", {"value": 2})


def remove(datastore: CaseDatastore, folder: Path) -> None:
    datastore.remove_label(CASE, "final")


def versions(datastore: CaseDatastore) -> list[LabelVersion]:
    return datastore.labels.log.of_case(CASE)


Change = Callable[[CaseDatastore, Path], None]


def shown(datastore: CaseDatastore) -> tuple[bytes, int] | None:
    """File and notes as a client gets them; nothing where there is no label."""
    if not datastore.get_labeled_images():
        return None
    notes = datastore.get_label_info(CASE, "final").get("value", 0)
    return Path(datastore.get_label_uri(CASE, "final")).read_bytes(), notes


def do_and_end_at(number: int, studies: Path, change: Change, folder: Path) -> int:
    """Make a change in another process that is killed at its n-th write; the signal, 0 for a change done."""
    child = os.fork()
    if child == 0:
        datastore = open_datastore(studies)
        seen = 0

        def count(event: str, arguments: tuple[Any, ...]) -> None:
            nonlocal seen
            if event in WRITES and str(studies) in str(arguments[0]):
                seen += 1
                if seen == number:
                    os.kill(os.getpid(), signal.SIGKILL)

        sync = os.fsync

        def counted(handle: Any) -> None:
            sync(handle)
            count("open", (studies,))

        os.fsync = counted
        sys.addaudithook(count)
        change(datastore, folder)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.parametrize(
    ("change", "before"),
    [(again, False), (again, True), (in_another_format, False), (in_another_format, True), (remove, True)],
)
def test_killed_at_any_write_file_and_notes_are_both_old_or_both_new(
    samples: Samples, tmp_path: Path, change: Change, before: bool
) -> None:
    studies = samples(CASE, labels=False)
    looking = open_datastore(studies)  # a server that goes on
    known: set[tuple[bytes, int] | None] = set()
    for number in range(1, 100):
        if before:
            first(open_datastore(studies), tmp_path)
        elif looking.get_labeled_images():
            remove(open_datastore(studies), tmp_path)
        old, before_it = shown(looking), versions(looking)
        ended = do_and_end_at(number, studies, change, tmp_path)
        now = shown(open_datastore(studies))  # the next process records what the killed one left
        assert shown(looking) == now
        assert versions(looking)[: len(before_it)] == before_it
        if ended == 0:
            new = now
            break
        known.add(now)
    assert number > 4
    assert new != old
    assert known <= {old, new}
    assert not list(studies.glob(".part-*"))


def test_on_a_full_disk_the_answer_is_whether_the_label_is_stored(
    samples: Samples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    studies = samples(CASE, labels=False)
    first(open_datastore(studies), tmp_path)
    datastore = open_datastore(studies)
    old = shown(datastore)
    outcomes = []
    for number in range(1, 20):
        left = number

        def full(what: Any) -> Any:
            def write(*arguments: Any, **more: Any) -> Any:
                nonlocal left
                left -= 1
                if left == 0:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                return what(*arguments, **more)

            return write

        with monkeypatch.context() as patch:
            for name in ("fsync", "replace", "rename", "unlink"):
                patch.setattr(os, name, full(getattr(os, name)))
            try:
                again(datastore, tmp_path)
            except OSError:
                stored = False
            else:
                stored = True
        now = shown(datastore)
        assert now is not None
        assert (now[1] == 2) == stored
        assert (now == old) != stored
        outcomes.append(stored)
        if left > 0:
            break
        if stored:
            first(open_datastore(studies), tmp_path)
    assert outcomes[0] is False
    assert outcomes[-1] is True
