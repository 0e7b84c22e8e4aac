"""Studies in a real Orthanc: one case a study, fetched when it is read."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.uid import generate_uid

from lib.cases.case import CaseError, Source
from lib.cases.dicomweb import mirror as mirrors
from lib.cases.dicomweb.client import PacsError
from lib.cases.dicomweb.mirror import Mirror
from lib.cases.dicomweb.studies import find_studies
from lib.cases.discovery.series_rules import RULE_PRESETS, rules_for
from lib.cases.formats.image import read_grid, read_volume
from lib.cases.records import Records
from tests.support.enhanced import Frame, write_enhanced
from tests.support.orthanc import Orthanc, orthanc, skip_without_orthanc, upload_changed

SAMPLES = Path(__file__).parents[3] / "samples" / "dicom"
RULES = RULE_PRESETS["pet_ct_mr"]


@pytest.fixture(scope="module")
def pacs() -> Iterator[Orthanc]:
    skip_without_orthanc()
    with orthanc(SAMPLES) as server:
        yield server


@pytest.fixture
def empty_pacs() -> Iterator[Orthanc]:
    skip_without_orthanc()
    with orthanc() as server:
        yield server


def mirror_of(server: Orthanc, folder: Path, *, max_bytes: int = 10**9) -> Mirror:
    return Mirror(server.dicomweb, folder / "dicom", max_bytes)


def test_the_series_of_a_study_are_one_case_whose_names_they_are(pacs: Orthanc, tmp_path: Path) -> None:
    pool = find_studies(mirror_of(pacs, tmp_path), RULES)
    header = pydicom.dcmread(SAMPLES / "STS_025" / "PET" / "000000.dcm", stop_before_pixels=True)
    assert len(pool.cases) == 2
    assert pool.modalities == ("MR_T1", "CT", "PET")
    case, modality = pool.resolve(header.SeriesInstanceUID)
    assert (case.id, modality) == (header.StudyInstanceUID, "PET")
    assert case.patient == "STS_025"


def test_nothing_is_fetched_before_it_is_read(pacs: Orthanc, tmp_path: Path) -> None:
    pool = find_studies(mirror_of(pacs, tmp_path), RULES)
    source = pool.cases[0].modalities["MR_T1"]
    before = source.stamp()
    assert not (tmp_path / "dicom").exists()
    read_grid(source)
    assert [path.name for path in (tmp_path / "dicom").glob("[!.]*")] == [source.series]
    assert source.stamp() == before


def test_the_content_of_a_case_is_the_same_once_it_was_fetched(pacs: Orthanc, tmp_path: Path) -> None:
    case = find_studies(mirror_of(pacs, tmp_path), RULES).cases[0]
    records = Records(tmp_path / "records.sqlite")
    before = records.content_hash(case)
    assert len(list((tmp_path / "dicom").glob("[!.]*"))) == 3
    assert records.content_hash(case) == before
    shutil.rmtree(tmp_path / "dicom")  # as when room was made
    assert records.content_hash(case) == before
    assert not (tmp_path / "dicom").exists()  # what is known is not fetched again


@pytest.mark.parametrize("name", ["CT", "PET", "MR_T1"])
def test_a_fetched_series_reads_like_its_files(pacs: Orthanc, tmp_path: Path, name: str) -> None:
    folder = SAMPLES / "STS_008" / name
    uid = pydicom.dcmread(folder / "000000.dcm", stop_before_pixels=True).SeriesInstanceUID
    case, modality = find_studies(mirror_of(pacs, tmp_path), RULES).resolve(str(uid))
    fetched, ours = read_volume(case.modalities[modality or ""]), read_volume(Source(folder))
    assert fetched.grid.same_as(ours.grid)
    assert np.array_equal(fetched.array, ours.array)


def test_an_enhanced_object_is_fetched_and_read_like_its_file(empty_pacs: Orthanc, tmp_path: Path) -> None:
    frames = [Frame(z, stored=int(z), slope=2.0) for z in (4.0, 0.0, 2.0)]
    uid = write_enhanced(tmp_path / "ours" / "IM1.dcm", frames)
    empty_pacs.upload([tmp_path / "ours" / "IM1.dcm"])
    case, modality = find_studies(mirror_of(empty_pacs, tmp_path), RULES).resolve(uid)
    fetched = read_volume(case.modalities[modality or ""])
    assert fetched.grid.same_as(read_grid(Source(tmp_path / "ours")))
    assert np.array_equal(fetched.array[:, 0, 0], [0.0, 4.0, 8.0])


def test_a_series_whose_header_is_of_another_modality_than_its_description_is_refused(
    empty_pacs: Orthanc, tmp_path: Path
) -> None:
    folder, usual = SAMPLES / "STS_025" / "MR_T1", RULE_PRESETS["usual"]
    upload_changed(empty_pacs, folder, tmp_path, SeriesDescription="AX T1 TSE", ContrastBolusAgent="Dotarem")
    (case,) = find_studies(mirror_of(empty_pacs, tmp_path), usual).cases
    assert list(case.modalities) == ["T1"]
    with pytest.raises(CaseError, match=r"must be a T1, as its description says; by its header it is T1ce\."):
        read_grid(case.modalities["T1"])
    rules = tmp_path / "rules.yaml"
    rules.write_text("rules: [{modality: MR, description: t1, name: T1ce}]")
    (case,) = find_studies(mirror_of(empty_pacs, tmp_path), rules_for(str(rules))).cases
    assert read_grid(case.modalities["T1ce"]).same_as(read_grid(Source(folder)))


def test_a_study_is_called_by_its_patient_date_and_description(empty_pacs: Orthanc, tmp_path: Path) -> None:
    upload_changed(
        empty_pacs, SAMPLES / "STS_025" / "MR_T1", tmp_path,
        PatientID="P 07", StudyDate="20260130", StudyDescription="Follow-up",
    )  # fmt: skip
    (case,) = find_studies(mirror_of(empty_pacs, tmp_path), RULES).cases
    assert case.title == "P 07, 2026-01-30, Follow-up"
    assert case.id != case.title


def test_a_series_whose_description_leaves_it_open_is_named_with_the_reason(
    empty_pacs: Orthanc, tmp_path: Path
) -> None:
    folder = SAMPLES / "STS_025" / "MR_T1"
    upload_changed(empty_pacs, folder, tmp_path, SeriesDescription="T1 with and without contrast")
    pool = find_studies(mirror_of(empty_pacs, tmp_path), RULE_PRESETS["usual"])
    assert [str(each).partition("must be known; ")[2][:45] for each in pool.skipped] == [
        "'T1 with and without contrast' says both, and"
    ]


def test_of_two_series_of_a_modality_the_one_with_more_slices_is_taken_and_said(
    empty_pacs: Orthanc, tmp_path: Path
) -> None:
    server, folder = empty_pacs, SAMPLES / "STS_025" / "MR_T1"
    server.upload(sorted(folder.glob("*.dcm")))
    fewer = tmp_path / "fewer"
    fewer.mkdir()
    for file in sorted(folder.glob("*.dcm"))[:5]:
        shutil.copy(file, fewer)
    upload_changed(server, fewer, tmp_path, SeriesInstanceUID=generate_uid(), SeriesDescription="T1 again")
    pool = find_studies(mirror_of(server, tmp_path), RULES)
    assert len(read_volume(pool.cases[0].modalities["MR_T1"]).array) == len(list(folder.glob("*.dcm")))
    assert "T1 again" in pool.skipped[0].reason
    assert "has more slices" in pool.skipped[0].reason


def test_of_two_equal_series_the_newest_is_taken(empty_pacs: Orthanc, tmp_path: Path) -> None:
    server, folder, newer = empty_pacs, SAMPLES / "STS_025" / "MR_T1", generate_uid()
    server.upload(sorted(folder.glob("*.dcm")))
    upload_changed(server, folder, tmp_path, SeriesInstanceUID=newer, SeriesDate="20200101")
    pool = find_studies(mirror_of(server, tmp_path), RULES)
    assert pool.cases[0].modalities["MR_T1"].series == newer
    assert "is newer" in pool.skipped[0].reason


def test_another_frame_of_reference_is_another_case(empty_pacs: Orthanc, tmp_path: Path) -> None:
    server = empty_pacs
    server.upload(sorted((SAMPLES / "STS_025").rglob("*.dcm")))
    other = {"SeriesInstanceUID": generate_uid(), "FrameOfReferenceUID": generate_uid()}
    upload_changed(server, SAMPLES / "STS_025" / "MR_T1", tmp_path, **other)
    cases = find_studies(mirror_of(server, tmp_path), RULES).cases
    assert [(len(case.modalities), case.id == f"{cases[0].id}_2") for case in cases] == [
        (3, False),
        (1, True),
    ]


def test_a_case_keeps_its_id_when_another_frame_of_reference_comes(
    empty_pacs: Orthanc, tmp_path: Path
) -> None:
    """A reader's label of the PET must not become one of the CT and MR that came later."""
    empty_pacs.upload((SAMPLES / "STS_008" / "PET").glob("*.dcm"))
    (before,) = find_studies(mirror_of(empty_pacs, tmp_path), RULES).cases
    for name in ("CT", "MR_T1"):
        upload_changed(empty_pacs, SAMPLES / "STS_008" / name, tmp_path, FrameOfReferenceUID="1.2.3")
    first, second = find_studies(mirror_of(empty_pacs, tmp_path), RULES).cases
    assert (first.id, list(first.modalities)) == (before.id, ["PET"])
    assert (second.id, len(second.modalities)) == (f"{before.id}_2", 2)


def test_what_no_rule_names_is_left_out_and_said(empty_pacs: Orthanc, tmp_path: Path) -> None:
    upload_changed(empty_pacs, SAMPLES / "STS_025" / "MR_T1", tmp_path, SeriesDescription="3-plane localizer")
    pool = find_studies(mirror_of(empty_pacs, tmp_path), RULES)
    assert not pool.cases
    assert "localizer" in pool.skipped[0].reason


def test_a_stopped_pacs_is_a_sentence_and_the_next_try_succeeds(
    empty_pacs: Orthanc, tmp_path: Path, quick_retries: None
) -> None:
    server = empty_pacs
    server.upload(sorted((SAMPLES / "STS_025" / "MR_T1").glob("*.dcm")))
    source = find_studies(mirror_of(server, tmp_path), RULES).cases[0].modalities["MR_T1"]
    server.stop()
    with pytest.raises(PacsError, match=f"must answer for .*series {source.series} .*no connection"):
        read_grid(source)
    server.start()
    assert read_grid(source).shape[0] == 25


def test_a_fetch_that_was_cut_goes_on_with_what_is_missing(pacs: Orthanc, tmp_path: Path) -> None:
    mirror = mirror_of(pacs, tmp_path)
    source = find_studies(mirror, RULES).cases[0].modalities["MR_T1"]
    read_grid(source)
    part = source.path.with_name(f".{source.path.name}.part")
    source.path.rename(part)
    first, second, *_ = sorted(part.iterdir())
    kept = second.stat().st_ino
    first.unlink()
    read_volume(source)
    assert (source.path / first.name).exists()
    assert (source.path / second.name).stat().st_ino == kept


def test_a_series_short_of_an_instance_is_not_taken_for_whole(empty_pacs: Orthanc, tmp_path: Path) -> None:
    server = empty_pacs
    files = sorted((SAMPLES / "STS_025" / "MR_T1").glob("*.dcm"))
    server.upload(files)
    source = find_studies(mirror_of(server, tmp_path), RULES).cases[0].modalities["MR_T1"]
    gone = server.instance_of(files[3])
    server.delete(gone)
    with pytest.raises(
        PacsError, match=f"series {source.series} .*must have 25 instances; the PACS lists 24"
    ):
        read_grid(source)
    server.upload(files)
    assert read_grid(source).shape[0] == 25


def test_the_longest_unused_series_makes_room(
    pacs: Orthanc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirrors, "SERIES_IN_USE_S", -1.0)
    case = find_studies(mirror_of(pacs, tmp_path, max_bytes=1_500_000), RULES).cases[0]
    ct, mr = case.modalities["CT"], case.modalities["MR_T1"]
    read_grid(ct)
    os.utime(ct.path, (1, 1))
    read_grid(mr)
    assert mr.path.exists()
    assert not ct.path.exists()
    assert read_grid(ct).shape[0] == 47
