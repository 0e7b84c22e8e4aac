import json
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from pydicom.uid import generate_uid

from lib.cases.case import CaseError, Source
from lib.cases.discovery.layouts import find_pool
from lib.cases.formats.image import read_grid, read_volume
from lib.cases.pool import Pool
from tests.conftest import SAMPLES
from tests.support.images import write_image, write_nrrd, write_series


def reasons(pool: Pool) -> str:
    return "\n".join(str(item) for item in pool.skipped)


def test_a_folder_a_patient_is_a_case_with_its_modalities_and_label() -> None:
    pool = find_pool(SAMPLES)
    case = pool.by_id["STS_002"]
    assert (pool.layout, len(pool.cases)) == ("folder", 16)
    assert pool.modalities == ("MR_T1", "CT", "PET")
    assert case.label == SAMPLES / "STS_002" / "GTV.nii.gz"
    assert case.modalities["PET"].scale == pytest.approx(0.01)
    assert read_volume(case.modalities["PET"]).array.max() == pytest.approx(21.01, abs=1e-4)


def test_a_folder_with_an_unknown_file_names_it_and_says_what_to_do(tmp_path: Path) -> None:
    write_image(tmp_path / "p1" / "CT.nii.gz")
    write_image(tmp_path / "p1" / "wibble.nii.gz")
    pool = find_pool(tmp_path)
    assert list(pool.by_id["p1"].modalities) == ["CT"]
    assert "wibble.nii.gz" in reasons(pool)
    assert "--conf modalities" in reasons(pool)


def test_a_sites_own_modality_is_found_once_it_is_named(tmp_path: Path) -> None:
    write_image(tmp_path / "p1" / "CT.nii.gz")
    write_image(tmp_path / "p1" / "wibble.nii.gz")
    assert find_pool(tmp_path, modalities=("Wibble",)).modalities == ("CT", "Wibble")


def test_two_files_for_one_modality_are_not_chosen_between_in_silence(tmp_path: Path) -> None:
    write_image(tmp_path / "p1" / "T1.nii.gz")
    write_image(tmp_path / "p1" / "t1w.nii.gz")
    assert "must have one T1" in reasons(find_pool(tmp_path))


@pytest.mark.parametrize("other", ["PET", "FDG", "PT"])
def test_a_pet_that_says_it_is_suv_is_taken_before_one_that_does_not(tmp_path: Path, other: str) -> None:
    for name in (other, "SUV"):
        write_image(tmp_path / "p1" / f"{name}.nii.gz")
    pool = find_pool(tmp_path, layout="folder")
    assert pool.cases[0].modalities["PET"].path.name == "SUV.nii.gz"
    assert "must have one PET; SUV.nii.gz is taken" in reasons(pool)


@pytest.mark.parametrize(
    ("folder", "names", "modalities", "patient"),
    [
        (
            "BraTS20_Training_001",
            ["_t1", "_t1ce", "_t2", "_flair", "_seg"],
            ("T1", "T1ce", "T2", "FLAIR"),
            "BraTS20_Training_001",
        ),
        (
            "BraTS-GLI-00001-000",
            ["-t1n", "-t1c", "-t2w", "-t2f", "-seg"],
            ("T1", "T1ce", "T2", "FLAIR"),
            "BraTS-GLI-00001",
        ),
    ],
)
def test_both_brats_namings_are_found(
    tmp_path: Path, folder: str, names: list[str], modalities: tuple[str, ...], patient: str
) -> None:
    for name in names:
        write_image(tmp_path / folder / f"{folder}{name}.nii.gz")
    pool = find_pool(tmp_path)
    assert (pool.layout, pool.modalities, pool.cases[0].patient) == ("brats", modalities, patient)
    assert pool.cases[0].label is not None


def test_two_time_points_of_a_brats_patient_are_two_cases_of_one_patient(tmp_path: Path) -> None:
    for visit in ("000", "001"):
        write_image(tmp_path / f"BraTS-GLI-00007-{visit}" / f"BraTS-GLI-00007-{visit}-t1n.nii.gz")
    cases = find_pool(tmp_path).cases
    assert len(cases) == 2
    assert {case.patient for case in cases} == {"BraTS-GLI-00007"}


def test_a_misnamed_brats_file_is_named_with_the_remedy(tmp_path: Path) -> None:
    write_image(tmp_path / "BraTS20_Training_001" / "BraTS20_Training_001_t1.nii.gz")
    write_image(tmp_path / "BraTS20_Training_001" / "BraTS20_Training_001_tt9.nii.gz")
    text = reasons(find_pool(tmp_path))
    assert "BraTS20_Training_001_tt9.nii.gz" in text
    assert "Rename it" in text


def test_flat_files_are_grouped_by_what_precedes_the_modality(tmp_path: Path) -> None:
    for name in ("p01_T1.nrrd", "p01_FLAIR.nrrd", "p02_T1.nrrd"):
        write_nrrd(tmp_path / name)
    write_image(tmp_path / "p02_x_MR_T1.nii.gz")
    pool = find_pool(tmp_path)
    assert pool.layout == "flat"
    assert sorted(pool.by_id) == ["p01", "p02", "p02_x"]
    assert list(pool.by_id["p02_x"].modalities) == ["MR_T1"]
    assert len(pool.incomplete) == 3


def test_a_flat_file_without_a_modality_is_named_with_the_remedy(tmp_path: Path) -> None:
    write_image(tmp_path / "p01_T1.nii.gz")
    write_image(tmp_path / "p01_left.nii.gz")
    assert "p01_left.nii.gz: its name must end with a modality" in reasons(find_pool(tmp_path))


def test_nnunet_channels_take_the_names_of_dataset_json(tmp_path: Path) -> None:
    for channel in range(2):
        write_image(tmp_path / "imagesTr" / f"case_01_000{channel}.nii.gz")
    write_image(tmp_path / "labelsTr" / "case_01.nii.gz")
    (tmp_path / "dataset.json").write_text(json.dumps({"channel_names": {"0": "T2w", "1": "CT"}}))
    pool = find_pool(tmp_path)
    assert (pool.layout, pool.modalities, list(pool.by_id)) == ("nnunet", ("T2", "CT"), ["case_01"])
    assert pool.cases[0].label == tmp_path / "labelsTr" / "case_01.nii.gz"


def test_an_nnunet_channel_missing_from_dataset_json_is_named_with_the_remedy(tmp_path: Path) -> None:
    write_image(tmp_path / "imagesTr" / "a_0000.nii.gz")
    write_image(tmp_path / "imagesTr" / "a_0001.nii.gz")
    (tmp_path / "dataset.json").write_text(json.dumps({"channel_names": {"0": "CT"}}))
    text = reasons(find_pool(tmp_path))
    assert "a_0001.nii.gz: dataset.json must name its channel 1" in text


def test_a_dataset_json_with_an_unknown_channel_name_is_refused(tmp_path: Path) -> None:
    write_image(tmp_path / "imagesTr" / "a_0000.nii.gz")
    (tmp_path / "dataset.json").write_text(json.dumps({"channel_names": {"0": "wibble"}}))
    with pytest.raises(CaseError, match=r"dataset\.json must name channel 0 after a modality"):
        find_pool(tmp_path, layout="nnunet")


def write_decathlon(root: Path, *, channels: int) -> None:
    write_image(root / "imagesTr" / "BRATS_001.nii.gz", shape=(4, 5, 6, channels))
    table = {"modality": {"0": "FLAIR", "1": "T1w", "2": "t1gd"}}
    (root / "dataset.json").write_text(json.dumps(table))


def test_a_decathlon_file_is_split_into_its_modalities(tmp_path: Path) -> None:
    write_decathlon(tmp_path, channels=3)
    pool = find_pool(tmp_path)
    case = pool.by_id["BRATS_001"]
    whole = np.asarray(nib.load(tmp_path / "imagesTr" / "BRATS_001.nii.gz").dataobj)
    assert (pool.layout, pool.modalities) == ("decathlon", ("T1", "T1ce", "FLAIR"))
    np.testing.assert_array_equal(read_volume(case.modalities["T1ce"]).array, whole[..., 2].T)


def test_a_decathlon_file_with_other_channels_is_named_with_the_remedy(tmp_path: Path) -> None:
    write_decathlon(tmp_path, channels=2)
    text = reasons(find_pool(tmp_path, layout="decathlon"))
    assert "BRATS_001.nii.gz: it must have the 3 channels" in text
    assert "Correct dataset.json" in text


def test_an_nrrd_lies_where_its_header_says(tmp_path: Path) -> None:
    source = find_pool(write_nrrd(tmp_path / "a_CT.nrrd").parent).cases[0].modalities["CT"]
    volume = read_volume(source)
    np.testing.assert_allclose(volume.grid.affine[:3, 3], (-1.0, -2.0, 3.0))
    assert volume.grid.spacing == pytest.approx((2.0, 1.5, 1.0))
    assert volume.array[4, 3, 2] == 59


@pytest.mark.parametrize(
    ("header", "sentence"),
    [
        ({"space directions": None, "space": None, "space origin": None}, "no 'space directions'"),
        ({"space": "scanner-xyz"}, "must use the space"),
    ],
)
def test_an_nrrd_that_does_not_say_where_it_lies_is_refused(
    tmp_path: Path, header: dict[str, object], sentence: str
) -> None:
    source = find_pool(write_nrrd(tmp_path / "a_CT.nrrd", **header).parent).cases[0].modalities["CT"]
    with pytest.raises(CaseError, match=sentence) as caught:
        read_grid(source)
    assert "a_CT.nrrd" in str(caught.value)
    assert "Export it again" in str(caught.value)


def test_a_truncated_nifti_names_the_file_and_the_remedy(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a_CT.nii.gz", shape=(30, 30, 30))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    source = find_pool(tmp_path).cases[0].modalities["CT"]
    with pytest.raises(CaseError, match=r"a_CT\.nii\.gz must be complete.*Copy or export it again"):
        read_volume(source)


def test_a_volume_over_the_cap_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a_CT.nii.gz", shape=(30, 30, 30))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])  # decoding it would fail otherwise
    with pytest.raises(CaseError, match="at most 1,000 voxels"):
        read_volume(find_pool(tmp_path).cases[0].modalities["CT"], max_voxels=1000)


def test_a_link_to_outside_the_studies_is_not_followed(tmp_path: Path) -> None:
    outside = write_image(tmp_path / "outside" / "secret.nii.gz")
    studies = write_image(tmp_path / "studies" / "p1" / "CT.nii.gz").parent.parent
    (studies / "p1" / "PET.nii.gz").symlink_to(outside)
    pool = find_pool(studies)
    assert list(pool.by_id["p1"].modalities) == ["CT"]
    assert "link to outside" in reasons(pool)
    assert list(find_pool(studies, follow_links=True).by_id["p1"].modalities) == ["CT", "PET"]


def test_every_sibling_is_an_alias_of_its_case() -> None:
    pool = find_pool(SAMPLES)
    for alias in ("STS_002_CT", "STS_002/CT", "STS_002/CT.nii.gz"):
        case, modality = pool.resolve(alias)
        assert (case.id, modality) == ("STS_002", "CT")
    assert pool.resolve("STS_002") == (pool.by_id["STS_002"], None)
    with pytest.raises(CaseError, match="none of 16 cases"):
        pool.resolve("CT.nii.gz")  # sixteen files have this name


def test_an_empty_folder_gives_an_empty_pool_and_a_missing_one_a_sentence(tmp_path: Path) -> None:
    assert find_pool(tmp_path).cases == ()
    with pytest.raises(CaseError, match="studies must be a folder"):
        find_pool(tmp_path / "none")
    with pytest.raises(CaseError, match="layout must be auto or one of"):
        find_pool(tmp_path, layout="wibble")


@pytest.mark.alone
def test_ten_thousand_folders_are_found_in_seconds(tmp_path: Path) -> None:
    for number in range(10_000):
        folder = tmp_path / f"p{number:05}"
        folder.mkdir()
        (folder / "CT.nii.gz").touch()
        (folder / "PET.nii.gz").touch()
    before = time.monotonic()
    pool = find_pool(tmp_path)
    assert len(pool.cases) == 10_000
    assert time.monotonic() - before < 5.0


@pytest.mark.parametrize("layout", ["folder", "dicom", "nnunet"])
def test_a_name_that_could_not_be_a_file_is_skipped_and_the_others_go_on(layout: str, tmp_path: Path) -> None:
    bad, good = "bad^name, x", "good"
    for name in (bad, good):
        if layout == "dicom":
            write_series(tmp_path / name / "CT", modality="CT", description="", study=generate_uid())
        elif layout == "nnunet":
            write_image(tmp_path / "imagesTr" / f"{name}_0000.nii.gz")
        else:
            write_image(tmp_path / name / "CT.nii.gz")
    (tmp_path / "dataset.json").write_text(json.dumps({"channel_names": {"0": "CT"}}))
    pool = find_pool(tmp_path, layout=layout)
    assert list(pool.by_id) == [good]
    assert "a case id must be letters" in reasons(pool)
    assert bad in reasons(pool)


def test_a_header_with_two_positions_is_refused(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a_CT.nii.gz")
    image = nib.load(path)
    other = image.affine.copy()
    other[0, 3] += 45.0
    image.set_qform(other, code=1)
    image.set_sform(image.affine, code=2)
    nib.save(image, path)
    with pytest.raises(CaseError, match=r"two positions \(qform, sform\) 45\.0 mm apart"):
        read_grid(find_pool(tmp_path).cases[0].modalities["CT"])


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        *((f"T1{end}", "Save it as .mha") for end in (".mhd", ".MHD")),
        ("T1.nhdr", "Save it as .nrrd"),
        *((f"T1{end}", "Save it as .nii.gz with its position") for end in (".hdr", ".img")),
        *((f"T1{end}", "Save both as one .mha") for end in (".raw", ".zraw")),
        *((f"T1{end}", "Convert it with mri_convert") for end in (".mgz", ".mgh")),
        *((f"T1{end}", "Unpack it") for end in (".nrrd.gz", ".mha.gz", ".nii.bz2")),
        *((f"T1{end}", "Convert it to .nii.gz") for end in (".mnc", ".par")),
    ],
)
def test_a_volume_in_a_format_that_is_not_read_is_named_with_its_own_remedy(
    tmp_path: Path, name: str, remedy: str
) -> None:
    write_image(tmp_path / "p1" / "CT.nii.gz")
    (tmp_path / "p1" / name).write_bytes(b"ElementDataFile = /etc/hostname\n")
    pool = find_pool(tmp_path)
    assert list(pool.by_id["p1"].modalities) == ["CT"]
    [skipped] = pool.skipped
    assert (skipped.path.name, remedy in skipped.reason) == (name, True)


def test_an_mha_beside_other_formats_is_a_modality_or_a_label_in_any_case_of_its_name(tmp_path: Path) -> None:
    image = sitk.ReadImage(str(write_image(tmp_path / "p1" / "CT.NII.GZ")))
    for name in ("PET", "T1", "GTV"):
        sitk.WriteImage(image, str(tmp_path / "p1" / f"{name}.mha"), useCompression=True)
    (tmp_path / "p1" / "T1.mha").rename(tmp_path / "p1" / "T1.MHA")
    case = find_pool(tmp_path).by_id["p1"]
    assert case.modalities.keys() == {"T1", "CT", "PET"}
    assert case.label == tmp_path / "p1" / "GTV.mha"
    first, *others = (read_volume(source) for source in case.modalities.values())
    assert all(first.grid.same_as(other.grid, tolerance=1e-4) for other in others)
    assert all((first.array == other.array).all() for other in others)


def test_two_volumes_never_share_a_name(tmp_path: Path) -> None:
    write_image(tmp_path / "P" / "MR_T1.nii.gz")
    write_image(tmp_path / "P_MR" / "T1.nii.gz")
    pool = find_pool(tmp_path)
    assert list(pool.by_id) == ["P"]
    assert "case P_MR would share the name p_mr_t1 with case P. Rename one." in reasons(pool)


def test_patients_in_another_layout_are_not_left_out_in_silence(tmp_path: Path) -> None:
    write_image(tmp_path / "p1" / "CT.nii.gz")
    write_image(tmp_path / "p02_CT.nii.gz")
    write_series(tmp_path / "p03" / "CT", modality="CT", description="", study="1.2")
    pool = find_pool(tmp_path)
    assert list(pool.by_id) == ["p1"]
    assert {item.path.name for item in pool.skipped} == {"p02_CT.nii.gz", "p03"}
    assert "Keep one layout a folder" in reasons(pool)


@pytest.mark.parametrize(
    "table", [{"0": "background", "1": "edema", "2": "core"}, {"background": 0, "edema": 1, "core": 2}]
)
def test_label_names_come_from_dataset_json(tmp_path: Path, table: dict[str, object]) -> None:
    write_image(tmp_path / "imagesTr" / "a_0000.nii.gz")
    (tmp_path / "dataset.json").write_text(json.dumps({"channel_names": {"0": "CT"}, "labels": table}))
    assert find_pool(tmp_path).labels == ("edema", "core")


def test_original_series_lie_where_their_contours_do() -> None:
    for case in find_pool(SAMPLES.parent / "dicom").cases:
        for modality, source in case.modalities.items():
            contour = source.path.parent / f"{modality}_GTV.nii.gz"
            assert read_grid(source).same_as(read_grid(Source(contour)))
