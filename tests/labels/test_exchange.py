"""Labels and DICOM SEG of a real Orthanc, both ways."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lib.cases.case import Source
from lib.cases.dicom_seg.write import Author, write_segmentation
from lib.cases.dicomweb.client import PacsError, pacs_at
from lib.cases.dicomweb.listing import FoundSeries
from lib.cases.formats.dicom import read_series
from lib.cases.formats.image import Grid, Volume, read_grid, read_volume, write_nifti
from lib.labels.store import FINAL, ORIGINAL
from lib.pipeline.settings import read_settings
from lib.pipeline.workspace import Workspace
from lib.runtime.errors import UserError
from lib.server.datastore import CaseDatastore
from tests.support.orthanc import Orthanc, orthanc, skip_without_orthanc

SAMPLES = Path(__file__).parents[2] / "samples" / "dicom"
PATIENT = SAMPLES / "STS_025"
OTHER = "STS_008"
NOW = datetime.now(UTC)


@pytest.fixture
def pacs(tmp_path: Path) -> Iterator[Orthanc]:
    """Two series of one patient, which is quicker to read than all."""
    skip_without_orthanc()
    for name in ("PET", "MR_T1"):
        shutil.copytree(PATIENT / name, tmp_path / "images" / name)
    with orthanc(tmp_path / "images") as server:
        yield server


class Reader:
    """A server's datastore, its only case, and its exchange with the PACS."""

    def __init__(self, server: Orthanc, work: Path) -> None:
        settings = {"work_dir": str(work), "series_rules": "pet_ct_mr", "labels": "core,edema"}
        self.workspace = Workspace(server.dicomweb, read_settings(settings))
        (self.case,) = self.workspace.pool.cases
        self.datastore = CaseDatastore(self.workspace)
        self.told: list[str] = []
        self.listings: list[bool] = []
        self.exchange = self.workspace.exchange(
            on_taken=lambda case: self.told.append(case.id),
            on_listed=self.listings.append,
        )

    def save(self, label: Volume, folder: Path) -> None:
        file = folder / "saved.nii.gz"
        write_nifti(label, file)
        self.datastore.save_label(self.case.id, str(file), FINAL, {})


def box(*values: int, patient: str = PATIENT.name) -> Volume:
    """A label on the MR's grid: a slab for each value."""
    grid = read_grid(Source(SAMPLES / patient / "MR_T1"))
    array = np.zeros(grid.shape, np.uint8)
    for number, value in enumerate(values):
        array[5 + 3 * number : 8 + 3 * number, 10:20, 10:30] = value
    return Volume(array, grid)


def outlined(label: Volume, *, hours: float, author: Author, patient: str = PATIENT.name) -> Any:
    """A SEG that someone stored in the PACS, hours from now."""
    return write_segmentation(
        label,
        read_series(SAMPLES / patient / "MR_T1"),
        labels={"core": 1, "edema": 2},
        author=author,
        written=NOW + timedelta(hours=hours),
    )


@pytest.mark.parametrize("values", [(1, 2), (2,), ()])
def test_a_label_comes_back_from_the_pacs_as_it_was_drawn(
    values: tuple[int, ...], pacs: Orthanc, tmp_path: Path
) -> None:
    first, label = Reader(pacs, tmp_path / "first"), box(*values)
    first.save(label, tmp_path)
    assert first.exchange.about()["unsent"] == 1
    first.exchange.once()
    assert first.exchange.about()["unsent"] == 0

    second = Reader(pacs, tmp_path / "second")
    second.exchange.once()
    assert second.datastore.labelled() == {second.case.id}
    assert second.told == [second.case.id]
    read = second.datastore.labels.read(second.case)
    assert read.grid.same_as(label.grid)
    assert np.array_equal(read.array, label.array)


def test_what_was_sent_is_neither_sent_again_nor_taken_for_new(pacs: Orthanc, tmp_path: Path) -> None:
    reader = Reader(pacs, tmp_path / "work")
    reader.save(box(1), tmp_path)
    for _ in range(2):
        reader.exchange.once()
    assert len(pacs_at(pacs.dicomweb).series(("SEG",))) == 1
    assert reader.told == []
    reader.save(box(2), tmp_path)
    reader.exchange.once()
    assert len(pacs_at(pacs.dicomweb).series(("SEG",))) == 2  # the older stays


def test_of_several_segmentations_the_newest_counts(pacs: Orthanc, tmp_path: Path) -> None:
    reader = Reader(pacs, tmp_path / "work")
    reader.save(box(1), tmp_path)
    for hours, label in ((-2.0, box(2)), (2.0, box(2, 1)), (1.0, box(1, 1))):
        pacs_at(pacs.dicomweb).store(outlined(label, hours=hours, author=Author("Other")))
    reader.exchange.once()
    assert np.array_equal(reader.datastore.labels.read(reader.case).array, box(2, 1).array)
    assert reader.exchange.about()["unsent"] == 0


def test_a_models_segmentation_is_no_readers_label(pacs: Orthanc, tmp_path: Path) -> None:
    pacs_at(pacs.dicomweb).store(outlined(box(1), hours=0, author=Author("CIML", "3")))
    reader = Reader(pacs, tmp_path / "work")
    reader.exchange.once()
    assert set(reader.datastore.labels_of(reader.case)) == {ORIGINAL}
    assert reader.told == []


def test_one_bad_segmentation_does_not_hold_up_the_others(pacs: Orthanc, tmp_path: Path) -> None:
    bad = outlined(box(1), hours=5, author=Author("Other"))
    bad.SegmentSequence[0].SegmentLabel = "liver"
    pacs_at(pacs.dicomweb).store(bad)
    pacs_at(pacs.dicomweb).store(outlined(box(2), hours=0, author=Author("Other")))
    reader = Reader(pacs, tmp_path / "work")
    reader.exchange.once()
    assert np.array_equal(reader.datastore.labels.read(reader.case).array, box(2).array)
    assert "liver" in (tmp_path / "work" / "segmentations.json").read_text()


def test_a_label_waits_for_a_pacs_that_is_down(pacs: Orthanc, tmp_path: Path) -> None:
    reader = Reader(pacs, tmp_path / "work")
    for source in reader.case.modalities.values():
        read_volume(source)
    pacs.stop()
    reader.save(box(1), tmp_path)
    with pytest.raises(PacsError, match="no connection"):
        reader.exchange.once()
    assert reader.exchange.about()["unsent"] == 1
    pacs.start()
    reader.exchange.once()
    assert reader.exchange.about()["unsent"] == 0


def test_a_label_of_series_that_have_left_this_machine_waits_too(pacs: Orthanc, tmp_path: Path) -> None:
    reader = Reader(pacs, tmp_path / "work")
    for source in reader.case.modalities.values():
        read_volume(source)
        shutil.rmtree(source.path)  # to make room
    pacs.stop()
    reader.save(box(1), tmp_path)
    assert reader.datastore.labelled() == {reader.case.id}
    with pytest.raises(PacsError, match="no connection"):
        read_volume(reader.case.modalities["MR_T1"])
    pacs.start()
    reader.exchange.once()
    assert reader.exchange.about()["unsent"] == 0


def test_a_segmentation_that_fails_in_an_unforeseen_way_holds_up_no_other_and_is_fetched_ever_less_often(
    pacs: Orthanc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, fetched = Reader(pacs, tmp_path / "work"), []
    server = pacs_at(pacs.dicomweb)
    server.store(outlined(box(2), hours=-1, author=Author("Other")))
    (bad,) = server.series(("SEG",))
    server.store(outlined(box(1), hours=0, author=Author("Other")))
    real = server.fetch

    def fetch(series: FoundSeries, folder: Path, **options: Any) -> None:
        if series.uid == bad.uid:
            fetched.append(series.uid)
            raise KeyError("nobody foresaw this")
        real(series, folder, **options)

    monkeypatch.setattr(server, "fetch", fetch)
    for _ in range(2):
        with pytest.raises(UserError, match=r"unexpected way \(KeyError\)"):
            reader.exchange.once()
    for _ in range(3):
        reader.exchange.once()
    assert len(fetched) == 2
    assert np.array_equal(reader.datastore.labels.read(reader.case).array, box(1).array)


def test_a_segmentation_dated_in_the_future_makes_no_later_one_older(pacs: Orthanc, tmp_path: Path) -> None:
    reader = Reader(pacs, tmp_path / "work")
    server = pacs_at(pacs.dicomweb)
    server.store(outlined(box(1), hours=24 * 365 * 73, author=Author("Other")))
    reader.exchange.once()
    assert np.array_equal(reader.datastore.labels.read(reader.case).array, box(1).array)
    server.store(outlined(box(2), hours=-3, author=Author("Other")))
    reader.exchange.once()
    assert np.array_equal(reader.datastore.labels.read(reader.case).array, box(2).array)


def test_a_study_that_arrives_is_a_case_with_the_segmentation_that_came_with_it(
    pacs: Orthanc, tmp_path: Path
) -> None:
    reader = Reader(pacs, tmp_path / "work")
    reader.exchange.once()
    theirs = outlined(box(1, patient=OTHER), hours=0, author=Author("Other"), patient=OTHER)
    pacs_at(pacs.dicomweb).store(theirs)
    reader.exchange.once()
    assert reader.listings == [False, False]
    assert reader.told == []  # of a study that has no image yet
    pacs.upload((SAMPLES / OTHER / "MR_T1").glob("*.dcm"))
    reader.exchange.once()
    assert reader.listings == [False, False, True]
    (new,) = {case.id for case in reader.workspace.verdicts.served} - {reader.case.id}
    assert reader.told == [new]
    assert reader.datastore.labelled() == {new}


def test_one_that_fails_holds_up_no_other_and_is_tried_again(
    pacs: Orthanc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = Reader(pacs, tmp_path / "work")
    server = pacs_at(pacs.dicomweb)
    server.store(outlined(box(2), hours=1, author=Author("Other")))
    (late,) = server.series(("SEG",))
    server.store(outlined(box(1), hours=0, author=Author("Other")))
    real = server.fetch

    def fetch(series: FoundSeries, folder: Path, **options: Any) -> None:
        if series.uid == late.uid:
            raise PacsError("not now")
        real(series, folder, **options)

    with monkeypatch.context() as patch:
        patch.setattr(server, "fetch", fetch)
        with pytest.raises(PacsError, match="not now"):
            reader.exchange.once()
    assert np.array_equal(reader.datastore.labels.read(reader.case).array, box(1).array)
    reader.exchange.once()
    assert np.array_equal(reader.datastore.labels.read(reader.case).array, box(2).array)


def test_a_label_drawn_elsewhere_is_not_sent_as_no_lesion(pacs: Orthanc, tmp_path: Path) -> None:
    label = box(1)
    far = np.array(label.grid.affine)
    far[:3, 3] += 5000.0
    with pytest.raises(UserError, match="none of its voxels does"):
        outlined(Volume(label.array, Grid(label.grid.shape, far)), hours=0, author=Author("Reader"))
