"""Labels that were there before this release: nothing is lost, and nothing of theirs is changed."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from monailabel.datastore.local import LocalDatastore

from lib.labels.earlier import EarlierLabels
from lib.labels.origin import Origin
from lib.pipeline.training_data import labelled_cases
from lib.server.datastore import CaseDatastore
from tests.support.images import write_image
from tests.support.pools import open_datastore

SHAPE = (12, 16, 16)


@pytest.fixture
def studies(tmp_path: Path) -> Path:
    """Three patients in one flat folder, as MONAI Label serves it."""
    folder = tmp_path / "studies"
    for place, patient in enumerate(("p1", "p2", "p3")):
        for number, name in enumerate(("CT", "PET")):
            write_image(folder / f"{patient}_{name}.nii.gz", seed=10 * place + number, shape=SHAPE)
    return folder


def a_label(studies: Path, file: Path, value: int = 1, depth: int = 3) -> Path:
    image = nib.load(studies / "p1_CT.nii.gz")
    array = np.zeros(image.shape, np.uint8)
    array[3:8, 3:8, 2 : 2 + depth] = value
    file.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, image.affine), file)
    settled = time.time() - 60
    os.utime(file, (settled, settled))
    return file


def tree(folder: Path) -> dict[str, bytes]:
    """Files of others below the labels, and the register."""
    files = [*folder.glob("labels/*/*"), *folder.glob("datastore_v2.json")]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files if path.is_file()}


def voxels(datastore: CaseDatastore) -> dict[str, int]:
    """Labelled voxels of each labelled case."""
    cases = datastore.workspace.pool.by_id
    return {id: int(datastore.labels.read(cases[id]).array.sum()) for id in sorted(datastore.labelled())}


def test_the_labels_of_a_stock_monai_label_are_its_cases_labels(studies: Path, tmp_path: Path) -> None:
    stock = LocalDatastore(str(studies), auto_reload=False)
    segments = {"label_info": [{"name": "lesion", "idx": 2}], "client_id": "ann"}
    stock.save_label("p1_CT", str(a_label(studies, tmp_path / "a.nii.gz", value=2)), "final", segments)
    stock.save_label("p2_PET", str(a_label(studies, tmp_path / "b.nii.gz", depth=2)), "final", {})
    stock.save_label("p3_CT", str(a_label(studies, tmp_path / "c.nii.gz")), "original", {})
    before = tree(studies)
    datastore = open_datastore(studies)
    assert voxels(datastore) == {"p1": 75, "p2": 50}
    assert datastore.status()["completed"] == 2
    assert datastore.get_unlabeled_images() == ["p3"]
    assert set(datastore.get_labels_by_image_id("p3")) == {"original"}
    info = datastore.get_label_info("p1", "final")
    assert (info["reader"], info["label_info"]) == ("ann", [{"name": "lesion", "idx": 2}])
    assert datastore.workspace.label_book.notes() == ["3 labels of an earlier server were taken in."]
    assert len(labelled_cases(datastore.workspace).learn) == 1
    assert tree(studies) == before


def test_a_folder_of_the_release_before_versions_is_taken_over_without_loss(studies: Path) -> None:
    register = {"name": "ours", "description": "", "objects": {}}
    for place, (case, reader) in enumerate((("p1", "ann"), ("p2", None))):
        a_label(studies, studies / "labels" / "final" / f"{case}.nii.gz", value=3 - place)
        client = {"client_id": reader} if reader else {}
        info = {"written": f"2026-05-0{place + 1}T10:00:00+00:00", "label_info": [], **client}
        info["label_info"] = [{"name": "lesion", "idx": 3 - place}]
        sent = {"dicom_seg": {"of": info["written"], "series": "1.2"}} if place else {}
        register["objects"][case] = {
            "image": {"info": {"note": case}},
            "labels": {"final": {"ext": ".nii.gz", "info": {**info, **sent}}},
        }
    (studies / "datastore_v2.json").write_text(json.dumps(register))
    before = tree(studies)
    datastore = open_datastore(studies)
    assert voxels(datastore) == {"p1": 75, "p2": 75}
    first, second = (datastore.labels.log.version(case, "final") for case in ("p1", "p2"))
    assert first is not None
    assert second is not None
    assert (first.reader, first.written, first.segments) == (
        "ann",
        "2026-05-01T10:00:00+00:00",
        (("lesion", 3),),
    )
    assert (second.reader, second.written) == ("", "2026-05-02T10:00:00+00:00")
    assert not datastore.labels.is_sent(first)
    assert datastore.labels.is_sent(second)  # no second SEG goes to the PACS
    assert datastore.get_image_info("p1")["note"] == "p1"
    assert datastore.name() == "ours"
    again = open_datastore(studies)
    assert [len(again.labels.log.of_case(case)) for case in ("p1", "p2")] == [1, 1]
    assert tree(studies) == before


def test_a_label_put_there_by_hand_counts_and_no_submit_touches_it(studies: Path, tmp_path: Path) -> None:
    datastore = open_datastore(studies)
    by_hand = a_label(studies, studies / "labels" / "final" / "p1.nii.gz", depth=2)
    content = by_hand.read_bytes()
    assert datastore.labelled() == set()
    earlier = datastore.workspace.label_book.earlier
    assert (earlier.look(), earlier.look()) == (1, 0)  # while the server runs
    assert voxels(datastore) == {"p1": 50}
    case = datastore.workspace.pool.by_id["p1"]
    datastore.labels.save(case, a_label(studies, tmp_path / "x.nii.gz"), "final", {}, Origin(reader="ann"))
    assert voxels(datastore) == {"p1": 75}
    assert by_hand.read_bytes() == content
    assert open_datastore(studies).labels.notes(case, "final")["version"] == 2  # the file is not newer
    a_label(studies, by_hand, depth=1)
    assert earlier.look() == 1
    assert voxels(datastore) == {"p1": 25}
    assert [each.kind for each in datastore.labels.log.of_case("p1")] == ["taken in", "submitted", "taken in"]
    datastore.remove_label("p1", "final")
    assert by_hand.exists()
    assert earlier.look() == 0  # a file that has not changed does not undo a removal


def test_a_folder_that_is_copied_elsewhere_takes_nothing_in_twice(studies: Path, tmp_path: Path) -> None:
    by_hand = a_label(studies, studies / "labels" / "final" / "p1_CT.nii.gz")
    datastore = open_datastore(studies)
    case = datastore.workspace.pool.by_id["p1"]
    sent = a_label(studies, tmp_path / "x.nii.gz", depth=1)
    datastore.labels.save(case, sent, "final", {}, Origin(reader="ann"))
    moved = tmp_path / "moved"
    shutil.copytree(studies, moved, copy_function=shutil.copyfile)  # with new times
    assert voxels(open_datastore(moved)) == {"p1": 25}
    assert (moved / by_hand.relative_to(studies)).exists()


BAD: dict[str, tuple[Callable[[Path, Path], object], str]] = {
    "p9.nii.gz": (a_label, "must be named for a case or for one of its images; 'p9' is none of 3 cases"),
    "p1.nii.gz": (lambda studies, file: file.write_bytes(b"x" * 500), "it is not packed with gzip"),
    "p2.nii.gz": (lambda studies, file: a_label(studies, file, value=7), r"must be 0, 1 lesion; got [7]"),
    "p3_CT.nii.gz": (lambda studies, file: file.write_bytes(b""), "0 bytes"),
}


def test_a_label_that_no_case_can_take_is_named_with_the_reason_and_stops_no_other(studies: Path) -> None:
    folder = studies / "labels" / "final"
    folder.mkdir(parents=True)
    for name, (make, _) in BAD.items():
        make(studies, folder / name)
    a_label(studies, studies / "labels" / "final" / "p3.nii.gz")
    before = tree(studies)
    datastore = open_datastore(studies)
    notes = datastore.workspace.label_book.notes()
    assert notes[0] == "1 label of an earlier server was taken in."
    assert len(notes) == 1 + len(BAD)
    for name, (_, reason) in BAD.items():
        (sentence,) = (note for note in notes if f"labels/final/{name} is left out" in note)
        assert reason in sentence
    assert voxels(datastore) == {"p3": 75}
    assert tree(studies) == before
    earlier = datastore.workspace.label_book.earlier
    a_label(studies, folder / "p1.nii.gz")  # mended
    assert earlier.look() == 1
    assert len(earlier.left_out) == len(BAD) - 1


def test_a_label_of_a_case_that_comes_later_is_taken_in_then(studies: Path) -> None:
    a_label(studies, studies / "labels" / "final" / "p4.nii.gz")
    datastore = open_datastore(studies)
    assert len(datastore.workspace.label_book.notes()) == 1
    for number, name in enumerate(("CT", "PET")):
        write_image(studies / f"p4_{name}.nii.gz", seed=90 + number, shape=SHAPE)
    datastore.workspace.refresh()
    assert datastore.workspace.label_book.earlier.look() == 1
    assert datastore.labels.labelled() == {"p4"}


def test_a_file_that_is_still_being_copied_is_waited_for(
    studies: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    datastore = open_datastore(studies)
    file = a_label(studies, studies / "labels" / "final" / "p1.nii.gz")
    whole = file.read_bytes()
    file.write_bytes(whole[:100])  # now
    earlier = datastore.workspace.label_book.earlier
    monkeypatch.setattr(time, "sleep", lambda _: file.write_bytes(whole[:200]))
    assert earlier.look() == 0
    assert earlier.left_out == []
    monkeypatch.undo()
    file.write_bytes(whole)
    assert earlier.look() == 1
    assert voxels(datastore) == {"p1": 75}


def test_labels_of_a_folder_that_cannot_be_written_go_to_the_work_folder(
    studies: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a_label(studies, studies / "labels" / "final" / "p1.nii.gz")
    access, read_only = os.access, True
    monkeypatch.setattr(
        os,
        "access",
        lambda path, mode: not (read_only and studies in [path, *path.parents]) and access(path, mode),
    )
    datastore = open_datastore(studies, work_dir=str(tmp_path / "work"))
    before = sorted(studies.rglob("*"))
    datastore.save_label("p2", str(a_label(studies, tmp_path / "x.nii.gz", depth=1)), "final", {})
    datastore.update_image_info("p2", {"note": "small"})
    assert voxels(datastore) == {"p1": 75, "p2": 25}
    assert datastore.workspace.folders.labels == tmp_path / "work" / "labels"
    said = datastore.workspace.label_book.notes()[0]
    place = datastore.workspace.folders.labels
    assert said == f"Labels are written to {place}: the studies folder could not be written."
    assert sorted(studies.rglob("*")) == before
    read_only = False  # once there, they stay there
    again = open_datastore(studies, work_dir=str(tmp_path / "work"))
    assert voxels(again) == {"p1": 75, "p2": 25}
    assert isinstance(again.workspace.label_book.earlier, EarlierLabels)


def test_processes_that_look_at_once_take_a_file_in_once(studies: Path) -> None:
    datastores = [open_datastore(studies) for _ in range(4)]
    a_label(studies, studies / "labels" / "final" / "p1.nii.gz")
    with ThreadPoolExecutor(4) as threads:
        taken = list(threads.map(lambda each: each.workspace.label_book.earlier.look(), datastores))
    assert sorted(taken) == [0, 0, 0, 1]
    assert len(datastores[0].labels.log.of_case("p1")) == 1


def test_of_two_files_of_one_case_the_label_written_later_counts(studies: Path) -> None:
    final = studies / "labels" / "final"
    a_label(studies, final / "p1_CT.nii.gz", depth=1)
    a_label(studies, final / "p1_PET.nii.gz", depth=2)
    times = {"p1_CT": "2026-05-02T10:00:00+00:00", "p1_PET": "2026-05-01T10:00:00+00:00"}
    objects = {
        id: {"image": {}, "labels": {"final": {"ext": ".nii.gz", "info": {"written": time}}}}
        for id, time in times.items()
    }
    (studies / "datastore_v2.json").write_text(json.dumps({"objects": objects}))
    assert voxels(open_datastore(studies)) == {"p1": 25}


def test_a_damaged_register_keeps_new_files_out_and_no_label_that_is_there(
    studies: Path, tmp_path: Path
) -> None:
    a_label(studies, studies / "labels" / "final" / "p1.nii.gz")
    assert voxels(open_datastore(studies)) == {"p1": 75}
    a_label(studies, studies / "labels" / "final" / "p2.nii.gz")
    register = studies / "datastore_v2.json"
    register.write_bytes(b"")
    datastore = open_datastore(studies)
    assert voxels(datastore) == {"p1": 75}
    (sentence,) = datastore.workspace.label_book.notes()[1:]
    assert sentence.startswith("labels/final/p2.nii.gz is left out: ")
    assert "datastore_v2.json must be whole; it is damaged" in sentence
    datastore.labels.save(
        datastore.workspace.pool.by_id["p3"], a_label(studies, tmp_path / "x.nii.gz"), "final", {}
    )
    register.unlink()
    assert datastore.workspace.label_book.earlier.look() == 1
    assert voxels(datastore) == {"p1": 75, "p2": 75, "p3": 75}
    assert register.exists() is False
