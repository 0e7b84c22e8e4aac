import shutil
from pathlib import Path

import numpy as np
import pydicom
from pydicom.uid import generate_uid

from lib.cases.discovery.layouts import find_pool
from lib.cases.formats.image import read_grid, read_volume
from lib.cases.pool import Pool
from tests.support.images import write_series


def reasons(pool: Pool) -> str:
    return "\n".join(str(item) for item in pool.skipped)


def test_series_of_one_study_are_one_case(tmp_path: Path) -> None:
    study = generate_uid()
    ct = write_series(tmp_path / "p1" / "s1", modality="CT", description="abdomen", study=study)
    write_series(tmp_path / "p1" / "s2", modality="MR", description="Ax T2 FLAIR", study=study)
    write_series(tmp_path / "p1" / "s3", modality="MR", description="t1 mprage post Gd", study=study)
    pool = find_pool(tmp_path)
    assert (pool.layout, list(pool.by_id)) == ("dicom", ["p1"])
    assert pool.modalities == ("T1ce", "FLAIR", "CT")
    assert pool.resolve(ct)[1] == "CT"
    volume = read_volume(pool.cases[0].modalities["CT"])
    assert volume.grid.shape == (4, 5, 6)
    np.testing.assert_allclose(volume.grid.affine, np.diag([-1.0, -1.0, 2.0, 1.0]))
    np.testing.assert_array_equal(volume.array[:, 0, 0], range(4))


def test_the_contrast_agent_of_the_header_names_a_series_and_a_contradiction_leaves_it_out(
    tmp_path: Path,
) -> None:
    study = generate_uid()
    given = {"ContrastBolusAgent": "Dotarem"}
    write_series(tmp_path / "p1" / "s1", modality="MR", description="AX T1", study=study, **given)
    write_series(tmp_path / "p1" / "s2", modality="MR", description="AX T2", study=study, **given)
    write_series(tmp_path / "p1" / "s3", modality="MR", description="AX T1 PRE", study=study, **given)
    pool = find_pool(tmp_path)
    assert pool.modalities == ("T1ce", "T2")
    assert "s3" in reasons(pool)
    assert "must agree on the contrast agent" in reasons(pool)


def test_a_series_in_another_frame_of_reference_is_another_case(tmp_path: Path) -> None:
    study = generate_uid()
    write_series(tmp_path / "p1" / "CT", modality="CT", description="", study=study)
    write_series(tmp_path / "p1" / "T1", modality="MR", description="", study=study)
    write_series(tmp_path / "p1" / "T2", modality="MR", description="", study=study, frame="9.9.9")
    pool = find_pool(tmp_path)
    assert {id: list(case.modalities) for id, case in pool.by_id.items()} == {
        "p1": ["CT", "T1"],
        "p1_2": ["T2"],
    }


def test_a_dicom_series_with_a_missing_slice_names_the_gap_and_the_remedy(tmp_path: Path) -> None:
    study = generate_uid()
    write_series(tmp_path / "p1" / "CT", modality="CT", description="", study=study)
    write_series(tmp_path / "p1" / "T1", modality="MR", description="", study=study, slices=7, skip=3)
    text = reasons(find_pool(tmp_path))
    assert "between 2.dcm and 4.dcm there are 4.00 mm" in text
    assert "export the series again" in text


def test_pet_in_becquerel_becomes_suv_by_body_weight(tmp_path: Path) -> None:
    tracer = pydicom.Dataset()
    tracer.RadionuclideTotalDose, tracer.RadionuclideHalfLife = 3.6e8, 3600.0
    tracer.RadiopharmaceuticalStartTime = "100000"
    write_series(
        tmp_path / "p1" / "PT",
        modality="PT",
        description="",
        study="1.2",
        Units="BQML",
        PatientWeight=72.0,
        DecayCorrection="START",
        SeriesTime="110000",
        AcquisitionTime="110000",
        RadiopharmaceuticalInformationSequence=[tracer],
    )
    volume = read_volume(find_pool(tmp_path).cases[0].modalities["PET"])
    np.testing.assert_allclose(volume.array[3, 0, 0], 3 * 72000.0 / 1.8e8, rtol=1e-6)  # one half-life later


def test_pet_without_a_dose_is_refused_rather_than_shown_as_suv(tmp_path: Path) -> None:
    write_series(
        tmp_path / "p1" / "PT", modality="PT", description="", study="1.2", Units="BQML", PatientWeight=72.0
    )
    text = reasons(find_pool(tmp_path))
    assert "must name one radiopharmaceutical; it names 0" in text


def test_slices_with_their_own_scale_are_decoded_each_by_its_own(tmp_path: Path) -> None:
    slopes = (1.0, 0.25, 0.125, 0.3)  # an empty slice first, as scanners write it
    write_series(
        tmp_path / "p1" / "PT", modality="PT", description="", study="1.2", Units="GML", slopes=slopes
    )
    volume = read_volume(find_pool(tmp_path).cases[0].modalities["PET"])
    np.testing.assert_allclose(volume.array[:, 0, 0], [0.0, 0.25, 0.25, 0.9], rtol=1e-6)


def test_slices_overwritten_in_place_are_seen(tmp_path: Path) -> None:
    write_series(tmp_path / "p1" / "CT", modality="CT", description="", study="1.2")
    source = find_pool(tmp_path).cases[0].modalities["CT"]
    before, stamp = read_grid(source), source.stamp()
    for file in source.path.iterdir():
        header = pydicom.dcmread(file)
        header.ImagePositionPatient = [50.0, 0.0, header.ImagePositionPatient[2]]
        with file.open("r+b") as stream:  # the folder's own time stays
            pydicom.dcmwrite(stream, header)
    assert source.stamp() != stamp
    assert read_grid(source).affine[0, 3] == before.affine[0, 3] - 50.0


def test_one_patient_id_for_all_folders_was_made_anonymous_and_does_not_join_them(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_series(tmp_path / name / "CT", modality="CT", description="", study=generate_uid())
    assert [case.patient for case in find_pool(tmp_path).cases] == ["a", "b"]


def test_a_series_in_two_folders_is_refused_rather_than_read_in_part(tmp_path: Path) -> None:
    whole = tmp_path / "p1" / "CT"
    write_series(whole, modality="CT", description="", study="1.2", slices=7)
    other = tmp_path / "p1" / "CT_2"
    other.mkdir()
    (whole / "6.dcm").rename(other / "6.dcm")
    pool = find_pool(tmp_path)
    assert not pool.cases
    said = {item.path: item.reason for item in pool.skipped}
    assert "a series must lie in one folder" in said[whole]
    assert "of 7 files of series" in said[whole]
    assert f"6 lie here and others in {other}" in said[whole]
    assert f"1 lie here and others in {whole}" in said[other]


def test_a_folder_twice_is_read_once_and_the_copy_is_named(tmp_path: Path) -> None:
    write_series(tmp_path / "p1" / "CT", modality="CT", description="", study="1.2")
    shutil.copytree(tmp_path / "p1" / "CT", tmp_path / "p1" / "CT copy")
    pool = find_pool(tmp_path)
    assert pool.cases[0].modalities["CT"].path == tmp_path / "p1" / "CT"
    (skipped,) = pool.skipped
    assert skipped.path == tmp_path / "p1" / "CT copy"
    assert "is a copy of the one in" in skipped.reason


def test_a_folder_twice_with_other_pixels_is_refused(tmp_path: Path) -> None:
    write_series(tmp_path / "p1" / "CT", modality="CT", description="", study="1.2")
    shutil.copytree(tmp_path / "p1" / "CT", tmp_path / "p1" / "CT defaced")
    file = tmp_path / "p1" / "CT defaced" / "2.dcm"
    file.write_bytes(file.read_bytes()[:-2] + b"\1\1")
    pool = find_pool(tmp_path)
    assert not pool.cases
    assert "and be there once" in reasons(pool)


def test_of_two_series_with_as_many_slices_the_one_that_is_taken_is_named(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_series(tmp_path / "p1" / name, modality="CT", description=f"CT {name}", study="1.2")
    pool = find_pool(tmp_path)
    taken, (skipped,) = pool.cases[0].modalities["CT"].path, pool.skipped
    assert {taken.name, skipped.path.name} == {"a", "b"}
    for said in (skipped.reason, *pool.cases[0].notes):
        assert f"'CT {taken.name}' in p1/{taken.name} (4 slices)" in said
        assert "no other has more slices and its UID comes first" in said


def test_every_series_of_a_folder_keeps_its_reason_when_no_case_is_found(tmp_path: Path) -> None:
    folder = tmp_path / "p1" / "both"
    for name in ("a", "b"):
        write_series(tmp_path / name, modality="CT", description=name, study="1.2", slices=7, skip=3)
        folder.mkdir(parents=True, exist_ok=True)
        for file in (tmp_path / name).iterdir():
            file.rename(folder / f"{name}{file.name}")
        (tmp_path / name).rmdir()
    text = reasons(find_pool(tmp_path))
    assert "between a2.dcm and a4.dcm" in text
    assert "between b2.dcm and b4.dcm" in text


def test_slices_directly_in_the_studies_folder_are_named(tmp_path: Path) -> None:
    write_series(tmp_path, modality="CT", description="", study="1.2")
    pool = find_pool(tmp_path)
    assert not pool.cases
    assert {skipped.path.name for skipped in pool.skipped} == {f"{number}.dcm" for number in range(4)}
    assert all("must lie in a folder of its patient" in skipped.reason for skipped in pool.skipped)
