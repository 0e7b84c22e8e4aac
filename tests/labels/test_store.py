"""Versions of labels, between processes, threads and a PACS: nothing that was submitted is lost."""

import json
import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from sqlalchemy import create_engine, text

from lib.cases.case import Case
from lib.cases.formats.image import Volume
from lib.labels.origin import Origin
from lib.labels.store import LabelStore
from lib.plan.label_index import LabelIndex
from lib.runtime.errors import UserError
from lib.server.datastore import CaseDatastore
from lib.server.errors import ClientError
from tests.support.pools import label_for, open_datastore
from tests.support.postgresql import new_schema, postgresql, skip_without_postgresql

Samples = Callable[..., Path]
CASE = "STS_002"


@pytest.fixture
def datastore(samples: Samples) -> CaseDatastore:
    return open_datastore(samples(CASE, labels=False))


@pytest.fixture
def store(datastore: CaseDatastore) -> LabelStore:
    return datastore.labels


@pytest.fixture
def case(datastore: CaseDatastore) -> Case:
    return datastore.workspace.pool.by_id[CASE]


@pytest.fixture
def file(datastore: CaseDatastore, tmp_path: Path) -> Path:
    return label_for(datastore.workspace, CASE, tmp_path / "label.nii.gz")


def larger(file: Path, name: str = "larger.nii.gz") -> Path:
    image = nib.load(file)
    array = np.asarray(image.dataobj).copy()
    array[30:40, 30:40, 5:9] = 1
    nib.save(nib.Nifti1Image(array, image.affine), file.with_name(name))
    return file.with_name(name)


def test_a_second_readers_label_is_a_version_beside_the_first_readers(
    store: LabelStore, case: Case, file: Path
) -> None:
    first = store.save(case, file, "final", {"client_id": "ann"}, Origin(reader="ann", client="10.0.0.1"))
    second = store.save(case, larger(file), "final", {"client_id": "bob"}, Origin(reader="bob"))
    assert (first.before, second.before) == (None, first.version)
    versions = store.log.of_case(CASE)
    assert [(each.number, each.reader, each.kind) for each in versions] == [
        (1, "ann", "submitted"),
        (2, "bob", "submitted"),
    ]
    for version, sent in zip(versions, (file, larger(file)), strict=True):
        assert store.log.files.file_of(version).read_bytes() == sent.read_bytes()
        assert version.segments == (("lesion", 1),)
        np.testing.assert_allclose(version.grid["affine"], nib.load(sent).affine, atol=1e-4)
        assert version.grid["shape"] == list(nib.load(sent).shape[::-1])
    assert versions[0].client == "10.0.0.1"
    assert versions[0].sha256 != versions[1].sha256
    assert store.read(case).array.sum() == 800
    assert store.notes(case, "final")["reader"] == "bob"


def test_an_earlier_version_is_made_current_again_and_no_version_is_lost(
    store: LabelStore, case: Case, file: Path
) -> None:
    store.save(case, file, "final", {}, Origin(reader="ann"))
    store.save(case, larger(file), "final", {}, Origin(reader="bob"))
    back = store.restore(case, "final", 1, reader="lead")
    assert (back.number, back.kind, back.reader, back.about["of"]) == (3, "restored", "lead", 1)
    assert back.about == {"of": 1, "images": store.log.of_case(CASE)[0].about["images"]}
    assert store.read(case).array.sum() == 400
    assert [each.number for each in store.log.of_case(CASE)] == [1, 2, 3]
    store.remove(case, "final", reader="lead")
    assert store.labelled() == set()
    with pytest.raises(UserError, match=r"must be one of 1, 2, 3; got 4"):
        store.restore(case, "final", 4)
    store.restore(case, "final", 2)
    assert store.read(case).array.sum() == 800
    assert [each.kind for each in store.log.of_case(CASE)][2:] == ["restored", "removed", "restored"]


def test_images_that_were_replaced_after_a_label_was_drawn_are_named_until_somebody_compared(
    datastore: CaseDatastore, case: Case, file: Path
) -> None:
    book = datastore.workspace.label_book
    book.store.save(case, file, "final", {}, Origin(reader="Anna"))
    book.store.note(case, "final", {"comment": "as drawn"})
    assert book.notes() == []
    pet, image = case.modalities["PET"].path, case.modalities["CT"].path
    away = pet.rename(pet.with_name("PET.gone"))  # one that comes or goes changes none of the others
    datastore.workspace.refresh()
    assert book.notes() == []
    away.rename(pet)
    volume = sitk.ReadImage(str(image)) + 1
    sitk.WriteImage(volume, str(image))
    datastore.workspace.refresh()
    (sentence,) = book.notes()
    assert sentence.startswith(f"the images of {CASE} changed after its label was drawn by Anna on 20")
    book.store.restore(case, "final", 1)
    assert book.notes() == []


def test_a_listing_of_all_cases_asks_the_index_once(
    datastore: CaseDatastore, store: LabelStore, case: Case, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.save(case, file, "final", {}, Origin(reader="ann"))
    asked: list[int] = []
    newest = LabelIndex.newest
    monkeypatch.setattr(LabelIndex, "newest", lambda self: asked.append(newest(self)) or asked[-1])
    assert datastore.json()["objects"][CASE]["labels"]["final"]["info"]["reader"] == "ann"
    assert asked == [1]
    store.remove(case, "final")
    assert datastore.json()["objects"][CASE]["labels"] == {}


def test_notes_make_a_version_with_the_same_voxels(store: LabelStore, case: Case, file: Path) -> None:
    store.save(case, file, "final", {"quality": "poor"}, Origin(reader="ann"))
    store.note(case, "final", {"quality": "good", "seen": 2})
    notes = store.notes(case, "final")
    assert (notes["quality"], notes["seen"], notes["version"], notes["reader"]) == ("good", 2, 2, "ann")
    assert store.log.of_case(CASE)[0].notes == {"quality": "poor"}
    with pytest.raises(UserError, match="server's own keys"):
        store.note(case, "final", {"version": 7})


def test_the_index_is_made_again_from_the_files(
    datastore: CaseDatastore, store: LabelStore, case: Case, file: Path
) -> None:
    store.save(case, file, "final", {"a": 1}, Origin(reader="ann", about={"model_version": 3}))
    store.save(case, larger(file), "final", {}, Origin(reader="bob"))
    store.save(case, file, "original", {}, Origin("model", reader="ciml"))
    store.remove(case, "original")
    before = store.log.of_case(CASE)
    work = datastore.workspace.folders.work
    datastore.workspace.plan.close()
    for each in work.glob("plan.sqlite*"):
        each.unlink()
    again = open_datastore(datastore.workspace.folders.studies)
    assert sorted(again.labels.log.of_case(CASE), key=lambda each: each.key) == sorted(
        before, key=lambda each: each.key
    )
    assert again.labels.labelled() == {CASE}
    assert again.labels.counts() == {"final": 1}
    number, problems = again.labels.log.rebuild(lambda done, of: None)
    assert (number, problems) == (4, [])
    assert again.labels.read(case).array.sum() == 800


def test_a_version_that_is_damaged_or_gone_is_named_and_stops_nothing(
    datastore: CaseDatastore, store: LabelStore, case: Case, file: Path
) -> None:
    for reader in ("ann", "bob", "cy"):
        store.save(case, file, "final", {}, Origin(reader=reader))
    folder = datastore.workspace.folders.labels / "final" / CASE
    shutil.rmtree(folder / "0001")
    (folder / "0002" / "version.json").write_text("{")
    datastore.workspace.plan.close()
    engine = create_engine(f"sqlite:///{datastore.workspace.folders.work / 'plan.sqlite'}")
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM label_version WHERE number = 2"))
    engine.dispose()
    again = open_datastore(datastore.workspace.folders.studies)
    damaged, gone = again.workspace.label_book.problems
    assert f"version 2 of the final label of {CASE} must be whole; it is damaged" in damaged
    assert f"version 1 of the final label of {CASE} must be in the folder of the labels; it is gone" in gone
    assert again.labels.notes(case, "final")["reader"] == "cy"
    assert again.labels.save(case, file, "final", {}).version.number == 4


def test_while_the_database_does_not_answer_a_label_is_stored_and_listed_later(
    datastore: CaseDatastore, store: LabelStore, case: Case, file: Path
) -> None:
    assert store.labelled() == set()
    database = datastore.workspace.folders.work / "plan.sqlite"
    datastore.workspace.plan.close()
    for each in database.parent.glob("plan.sqlite*"):
        each.rename(each.with_name(f"away-{each.name}"))
    database.mkdir()
    saved = store.save(case, file, "final", {}, Origin(reader="ann"))
    assert store.labelled() == {CASE}
    assert store.read(case).array.sum() == 400
    database.rmdir()
    for each in database.parent.glob("away-*"):
        each.rename(each.with_name(each.name.removeprefix("away-")))
    assert store.labelled() == {CASE}
    assert store.log.of_case(CASE) == [saved.version]


def test_what_one_process_stores_another_sees_without_a_restart(
    datastore: CaseDatastore, store: LabelStore, case: Case, file: Path
) -> None:
    looking = open_datastore(datastore.workspace.folders.studies)
    assert looking.labels.labelled() == set()
    store.save(case, file, "final", {}, Origin(reader="ann"))
    assert looking.labels.labelled() == {CASE}
    looking.labels.save(case, larger(file), "final", {}, Origin(reader="bob"))
    assert store.notes(case, "final")["version"] == 2


def submit_for_ever(
    studies: Path, reader: str, number: int, files: dict[str, Path], told: int, conf: dict[str, str]
) -> None:
    """Submit one label after another as a server does, and report the number of each that is stored."""
    mine = open_datastore(studies, **conf)
    while True:
        for id, file in files.items():
            number += 1
            origin = Origin(reader=reader)
            mine.labels.save(mine.workspace.pool.by_id[id], file, "final", {"number": number}, origin)
            os.write(told, number.to_bytes(4))


@pytest.mark.slow
@pytest.mark.parametrize(("readers", "database"), [("a", "sqlite"), ("ab", "postgresql")])
def test_a_hundred_kills_while_labels_are_saved_lose_none_that_was_reported(
    readers: str, database: str, samples: Samples, tmp_path: Path
) -> None:
    """One server on SQLite, and two that submit labels of the same cases on one PostgreSQL."""
    studies, conf, moment = samples("STS_025", "STS_008", "STS_042", labels=False), {}, random.Random(0)
    with ExitStack() as server:
        if database == "postgresql":
            skip_without_postgresql()
            conf["database_url"] = new_schema(server.enter_context(postgresql()))
        again = open_datastore(studies, **conf)
        files = {id: label_for(again.workspace, id, tmp_path / f"{id}.nii.gz") for id in again.list_images()}
        stored = dict.fromkeys(readers, 0)
        for _ in range(100):
            running = {}
            for reader in readers:
                reading, writing = os.pipe()
                if not (child := os.fork()):
                    submit_for_ever(studies, reader, stored[reader], files, writing, conf)
                os.close(writing)
                running[reader] = (child, reading)
            told = {reader: int.from_bytes(os.read(reading, 4)) for reader, (_, reading) in running.items()}
            for child, _ in running.values():
                time.sleep(moment.uniform(0.0, 0.03))
                os.kill(child, signal.SIGKILL)
            for reader, (child, reading) in running.items():
                os.waitpid(child, 0)
                while rest := os.read(reading, 4):
                    told[reader] = int.from_bytes(rest)
                os.close(reading)
            again = open_datastore(studies, **conf)
            versions = [version for id in files for version in again.labels.log.of_case(id)]
            assert len({version.key for version in versions}) == len(versions)
            for reader in readers:
                numbers = {version.notes["number"] for version in versions if version.reader == reader}
                stored[reader] = max(numbers)
                assert told[reader] <= stored[reader] <= told[reader] + 1
                assert numbers == set(range(1, stored[reader] + 1))
            for id in again.get_labeled_images():
                assert again.labels.read(again.workspace.pool.by_id[id]).array.any()
            again.workspace.plan.close()


def test_of_two_labels_saved_at_once_both_are_there_whole(store: LabelStore, case: Case, file: Path) -> None:
    second = file.with_name("label.nrrd")
    sitk.WriteImage(sitk.ReadImage(str(file)), str(second))
    with ThreadPoolExecutor(2) as readers:
        for turn in range(10):
            saves = [
                readers.submit(store.save, case, each, "final", {"of": each.name}) for each in (file, second)
            ]
            numbers = {save.result().version.number for save in saves}
            assert numbers == {2 * turn + 1, 2 * turn + 2}
    for version in store.log.of_case(CASE):
        assert (
            store.log.files.file_of(version).read_bytes() == file.with_name(version.notes["of"]).read_bytes()
        )
    assert (
        store.files_of(case)["final"].name == f"{CASE}.{store.notes(case, 'final')['of'].partition('.')[2]}"
    )


def test_a_label_of_the_pacs_never_takes_the_place_of_a_newer_one(
    store: LabelStore, case: Case, file: Path
) -> None:
    now = datetime.now(UTC)
    for hours, stored in ((-2, True), (-3, False), (-2, False), (-1, True)):
        written = (now + timedelta(hours=hours)).isoformat()
        assert store.take(case, file, "final", written=written, sent={"author": "eve"}) == stored
    assert store.notes(case, "final")["reader"] == "eve"
    store.save(case, file, "final", {})
    assert not store.take(case, file, "final", written=written, sent={})
    assert "dicom_seg" not in store.notes(case, "final")


def test_a_label_that_training_could_not_learn_from_is_refused(
    datastore: CaseDatastore, store: LabelStore, case: Case, file: Path
) -> None:
    image = nib.load(file)
    fine = image.affine @ np.diag([0.2, 0.2, 0.2, 1.0])
    array = np.zeros((20, 20, 20), np.uint8)
    array[1, 1, 1] = 1  # between the voxels of every image
    fine[:3, 3] = (image.affine @ [20.3, 20.3, 8.3, 1.0])[:3]
    nib.save(nib.Nifti1Image(array, fine), file.with_name("dot.nii.gz"))
    with pytest.raises(UserError, match="must cover at least one voxel of the case's reference image"):
        store.save(case, file.with_name("dot.nii.gz"), "final", {})
    dot = file.with_name("dot.nii.gz")
    assert store.take(case, dot, "final", written="2026-01-01T00:00:00+00:00", sent={})  # the PACS has it
    store.remove(case, "final")
    segments = [{"name": "vessel", "idx": 1}]
    with pytest.raises(ClientError, match="a segment must be named lesion; got vessel"):
        datastore.save_label(CASE, str(file), "final", {"label_info": segments})
    assert store.labelled() == set()


def test_a_reader_is_warned_of_what_may_be_a_mistake(store: LabelStore, case: Case, file: Path) -> None:
    whole = nib.load(file)
    grid = store.checks.reference(case)
    mask = np.zeros(grid.shape, np.uint8)
    mask[5:9, 10:20, 10:20] = 1  # the label itself

    def warnings(sent: Path, begun_from: np.ndarray | None, **notes: object) -> tuple[str, ...]:
        begun = None if begun_from is None else Volume(begun_from, grid)
        return store.save(case, sent, "final", notes, Origin(begun_from=begun)).warnings

    assert warnings(file, mask) == warnings(file, None) == ()
    small, far, empty = mask.copy(), np.zeros_like(mask), file.with_name("empty.nii.gz")
    small[:, 11:], far[0, :20, 30:40] = 0, 1
    (size,) = warnings(file, small)
    assert "This label has" in size
    assert "the pre-segmentation" in size
    (place,) = warnings(file, far)
    assert place == "This label shares no voxel with the pre-segmentation. Is it of the right case and place?"
    nib.save(nib.Nifti1Image(np.zeros(whole.shape, np.uint8), whole.affine), empty)
    assert warnings(empty, None) == (
        f"This label is empty: it says that there is nothing to outline in {CASE}.",
    )
    assert len(warnings(empty, mask)) == 2
    segments = [{"name": "vessel", "idx": 3}, {"name": "lesion", "idx": 1}]
    array = np.asarray(whole.dataobj).copy()
    array[40:50, 40:50, 5:9] = 3
    nib.save(nib.Nifti1Image(array, whole.affine), file.with_name("two.nii.gz"))
    (other,) = warnings(file.with_name("two.nii.gz"), mask, label_info=segments)
    assert other == "vessel is none of lesion: it stays in the file, and no model learns it."
    assert store.read(case).array.sum() == 400


def test_a_label_whose_structures_have_other_names_now_is_not_read_as_empty(
    datastore: CaseDatastore, file: Path
) -> None:
    datastore.save_label(CASE, str(file), "final", {})
    renamed = open_datastore(datastore.workspace.folders.studies, labels=("tumour",))
    with pytest.raises(UserError, match="must hold tumour; it holds lesion"):
        renamed.labels.read(renamed.workspace.pool.by_id[CASE])


def test_the_document_beside_a_label_says_all_that_the_index_says(
    store: LabelStore, case: Case, file: Path
) -> None:
    saved = store.save(
        case, file, "final", {"label_info": [{"name": "lesion", "idx": 1}]}, Origin(reader="Zoë")
    )
    document = store.log.files.beside(saved.version, "version.json")
    assert json.loads(document.read_text())["reader"] == "Zoë"
    assert store.log.files.read(CASE, "final", 1) == saved.version
    assert replace(saved.version, number=0).key == (CASE, "final", 0)


def test_what_a_killed_writer_left_is_removed_once_it_is_old(
    datastore: CaseDatastore, store: LabelStore, case: Case, file: Path
) -> None:
    store.save(case, file, "final", {})
    folder = datastore.workspace.folders.labels
    young, old = folder / ".part-young", folder / ".part-old"
    for part in (young, old):
        part.mkdir()
        (part / f"{CASE}.nii.gz").write_bytes(file.read_bytes())
    os.utime(old, (1e9, 1e9))
    open_datastore(datastore.workspace.folders.studies)
    assert young.exists()
    assert not old.exists()
