"""DICOM files of old, of other writers and of other kinds are read or named; none is lost in silence."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.uid import ImplicitVRLittleEndian, generate_uid

from lib.cases.case import CaseError, Source
from lib.cases.discovery.layouts import find_pool
from lib.cases.formats.dicom_folder import list_folder
from lib.cases.formats.image import read_volume
from lib.cases.formats.pydicom_versions import WHOLE_FILE
from tests.support.images import write_series

META_LENGTH = 12  # bytes of the element that holds the length of the file meta information


def write_ct(folder: Path, **tags: Any) -> Path:
    scale = {"RescaleSlope": 2.0, "RescaleIntercept": -1000.0, "SOPClassUID": "1.2.840.10008.5.1.4.1.1.2"}
    write_series(folder, modality="CT", description="thorax", study="1.2", **{**scale, **tags})
    return folder


def refusal(folder: Path) -> str:
    with pytest.raises(CaseError) as caught:
        read_volume(Source(folder))
    return str(caught.value)


def without_preamble(file: Path) -> None:
    file.write_bytes(file.read_bytes()[132:])


def without_meta(file: Path) -> None:
    data = file.read_bytes()
    length = int.from_bytes(data[140:144], "little")
    file.write_bytes(data[132 + META_LENGTH + length :])


def implicit_without_meta(file: Path) -> None:
    dataset = pydicom.dcmread(file)
    dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    dataset.is_little_endian, dataset.is_implicit_VR = True, True
    dataset.save_as(file, **WHOLE_FILE)
    without_meta(file)


def without_suffix(file: Path) -> None:
    file.rename(file.with_suffix(""))


def of_a_private_class(file: Path) -> None:
    change(file, SOPClassUID="1.3.46.670589.5.0.1")


def of_no_class(file: Path) -> None:
    change(file, SOPClassUID=None)


def full_of_private_elements(file: Path) -> None:
    dataset = pydicom.dcmread(file)
    block = dataset.private_block(0x0029, "SIEMENS CSA HEADER", create=True)
    for element in range(200):
        block.add_new(element, "OB", bytes(500))
    dataset.save_as(file)


def change(file: Path, **tags: Any) -> None:
    dataset = pydicom.dcmread(file)
    for keyword, value in tags.items():
        if value is None:
            del dataset[keyword]
        else:
            setattr(dataset, keyword, value)
    dataset.save_as(file)


@pytest.mark.parametrize(
    "made",
    [
        without_preamble,
        without_meta,
        implicit_without_meta,
        without_suffix,
        of_a_private_class,
        of_no_class,
        full_of_private_elements,
    ],
)
@pytest.mark.parametrize("which", ["all", "the last"])
def test_a_file_of_another_writer_is_a_slice_like_the_others(
    tmp_path: Path, made: Callable[[Path], None], which: str
) -> None:
    write_ct(tmp_path)
    for file in sorted(tmp_path.iterdir())[0 if which == "all" else -1 :]:
        made(file)
    assert not list_folder(tmp_path).others
    np.testing.assert_array_equal(read_volume(Source(tmp_path)).array[:, 1, 2], [-1000, -998, -996, -994])


@pytest.mark.parametrize("value", [None, ""])
@pytest.mark.parametrize(
    "absent", ["FrameOfReferenceUID", "PatientID", "InstanceNumber", "SliceThickness", "SOPInstanceUID"]
)
def test_an_attribute_that_nothing_depends_on_may_lack(
    tmp_path: Path, absent: str, value: str | None
) -> None:
    for file in write_ct(tmp_path, NumberOfFrames="", RescaleType="").iterdir():
        change(file, **{absent: value})
    np.testing.assert_array_equal(read_volume(Source(tmp_path)).array[:, 1, 2], [-1000, -998, -996, -994])


@pytest.mark.parametrize(
    "content",
    [
        b"\x08\x00" * 200,
        b"\x08\x00\x05\x00CS\x0a\x00ISO_IR 100" + bytes(200),
        bytes(1000),
        b"",
        bytes(range(256)) * 4,
    ],
    ids=["letters of a tag", "a single element", "zeros", "nothing", "noise"],
)
def test_a_damaged_file_that_is_named_like_the_slices_may_be_one(tmp_path: Path, content: bytes) -> None:
    for file in sorted(write_ct(tmp_path).iterdir()):
        file.rename(tmp_path / f"1.2.840.{file.stem}")
    (tmp_path / "1.2.840.99").write_bytes(content)
    assert "every DICOM file in" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("README", b"Slices of a thorax.\n" * 40),
        ("Thumbs.db", bytes(1000)),
        ("index.bin", b"\x08\x00\x05\x00CS\xff\xff" + b"\xff" * 1000),
    ],
)
def test_a_file_of_another_kind_beside_the_slices_is_named(tmp_path: Path, name: str, content: bytes) -> None:
    folder = tmp_path / "p" / "CT"
    for file in sorted(write_ct(folder).iterdir()):
        without_suffix(file)
    (folder / name).write_bytes(content)
    pool = find_pool(tmp_path)
    assert [case.id for case in pool.cases] == ["p"]
    assert {item.path.name: item.reason for item in pool.skipped} == {name: "it is no DICOM file."}


def write_object(path: Path, kind: str, **tags: Any) -> Path:
    """A DICOM object of another kind, in a series of its own."""
    whole = pydicom.dcmread(write_ct(path.parent / "made") / "0.dcm")
    shutil.rmtree(path.parent / "made")
    for keyword in ("Rows", "Columns", "PixelData", "PixelSpacing", "ImagePositionPatient"):
        if keyword not in tags:
            del whole[keyword]
    whole.SOPClassUID = whole.file_meta.MediaStorageSOPClassUID = kind
    whole.SeriesInstanceUID, whole.SOPInstanceUID = generate_uid(), generate_uid()
    for keyword, value in tags.items():
        setattr(whole, keyword, value)
    whole.save_as(path)
    return path


IMAGE_SIZE = {"Rows": 5, "Columns": 6, "PixelData": bytes(60), "NumberOfFrames": 1}
STORAGE = "1.2.840.10008.5.1.4.1.1."


@pytest.mark.parametrize(
    ("kind", "tags", "said"),
    [
        (f"{STORAGE}66.4", {"Modality": "SEG", **IMAGE_SIZE}, "a segmentation"),
        (f"{STORAGE}66.7", {"Modality": "SEG", **IMAGE_SIZE}, "a segmentation"),
        (f"{STORAGE}481.2", {"Modality": "RTDOSE", **IMAGE_SIZE}, "a dose of radiotherapy"),
        (f"{STORAGE}30", {"Modality": "MR", **IMAGE_SIZE}, "a parametric map"),
        (f"{STORAGE}481.3", {"Modality": "RTSTRUCT"}, "contours of radiotherapy"),
        (f"{STORAGE}88.33", {"Modality": "SR"}, "a report"),
        (f"{STORAGE}11.1", {"Modality": "PR"}, "a presentation state"),
        (f"{STORAGE}88.59", {"Modality": "KO"}, "a list of key images"),
        (f"{STORAGE}66", {"Modality": "MR"}, "raw data"),
        (f"{STORAGE}104.1", {"Modality": "DOC"}, "a document"),
        (f"{STORAGE}66.1", {"Modality": "REG"}, "a registration"),
        ("1.2.840.10008.1.3.10", {"Modality": ""}, "the index of a medium"),
        (f"{STORAGE}67", {"Modality": "RWV"}, "Real World Value Mapping Storage"),
    ],
)
def test_an_object_that_is_no_image_is_named_and_hinders_no_series_beside_it(
    tmp_path: Path, kind: str, tags: dict[str, Any], said: str
) -> None:
    folder = write_ct(tmp_path / "p" / "CT")
    write_object(folder / "IN0001", kind, **tags)
    pool = find_pool(tmp_path)
    assert [case.id for case in pool.cases] == ["p"]
    (skipped,) = pool.skipped
    assert skipped.path.name == "IN0001"
    assert f"it is no image but {'an object of the kind ' if said[0] == 'R' else ''}{said};" in skipped.reason


def test_contours_beside_the_slices_are_named_however_many_they_are(tmp_path: Path) -> None:
    folder = write_ct(tmp_path / "p" / "CT")
    contours = write_object(folder / "contours.dcm", f"{STORAGE}481.3", Modality="RTSTRUCT")
    item = b"\xfe\xff\x00\xe0\0\0\0\0"
    sequence = b"\x06\x30\x39\x00SQ\0\0\xff\xff\xff\xff" + item * 100_000
    contours.write_bytes(contours.read_bytes() + sequence + b"\xfe\xff\xdd\xe0\0\0\0\0")
    (skipped,) = find_pool(tmp_path).skipped
    assert "contours of radiotherapy" in skipped.reason


def test_the_index_of_a_medium_is_named(tmp_path: Path) -> None:
    folder = write_ct(tmp_path / "p" / "CT")
    (folder / "DICOMDIR").write_bytes(bytes(128) + b"DICM")
    (skipped,) = find_pool(tmp_path).skipped
    assert skipped.path.name == "DICOMDIR"
    assert "it is the index of a medium" in skipped.reason


def test_many_objects_of_a_kind_are_named_in_one_line(tmp_path: Path) -> None:
    folder = write_ct(tmp_path / "p" / "CT")
    for number in range(3):
        write_object(folder / f"report{number}.dcm", f"{STORAGE}88.33", Modality="SR")
    (skipped,) = find_pool(tmp_path).skipped
    assert skipped.reason.startswith("report0.dcm and 2 more: it is no image but a report")


def test_a_file_twice_is_read_once_and_the_copy_is_named(tmp_path: Path) -> None:
    folder = write_ct(tmp_path / "p" / "CT")
    shutil.copy(folder / "2.dcm", folder / "2 (1).dcm")
    pool = find_pool(tmp_path)
    assert read_volume(pool.cases[0].modalities["CT"]).grid.shape == (4, 5, 6)
    assert [str(item.path.name) for item in pool.skipped] == ["2.dcm"]
    assert pool.skipped[0].reason == "it is a copy of 2 (1).dcm, which is read."


def test_two_files_of_one_instance_with_other_content_are_refused(tmp_path: Path) -> None:
    folder = write_ct(tmp_path)
    shutil.copy(folder / "2.dcm", folder / "9.dcm")
    change(folder / "9.dcm", PixelData=bytes(60))
    assert "2.dcm and 9.dcm have one SOPInstanceUID, yet their content differs" in refusal(folder)


def test_two_slices_at_one_place_are_two_volumes_or_copies(tmp_path: Path) -> None:
    folder = write_ct(tmp_path)
    shutil.copy(folder / "2.dcm", folder / "9.dcm")
    change(folder / "9.dcm", SOPInstanceUID=generate_uid())
    assert "it holds 5 slices at 4 positions. They differ in nothing that the header says" in refusal(folder)


def test_single_slices_of_two_echoes_are_named_with_both(tmp_path: Path) -> None:
    uid = generate_uid()
    for echo in (10.0, 20.0):
        write_series(tmp_path / f"{echo}", modality="MR", description="T2", study="1.2", EchoTime=echo)
        for file in (tmp_path / f"{echo}").iterdir():
            change(file, SeriesInstanceUID=uid)
            file.rename(tmp_path / f"{echo:g}_{file.name}")
        (tmp_path / f"{echo}").rmdir()
    assert "8 slices at 4 positions (2 volumes). They differ in echo time: 10, 20" in refusal(tmp_path)


@pytest.mark.parametrize(("modality", "units"), [("CT", ""), ("PT", "GML")])
def test_a_measured_value_is_the_same_whether_it_is_shown_white_or_black(
    tmp_path: Path, modality: str, units: str
) -> None:
    write_ct(tmp_path, Modality=modality, Units=units, PhotometricInterpretation="MONOCHROME1")
    np.testing.assert_array_equal(read_volume(Source(tmp_path)).array[:, 1, 2], [-1000, -998, -996, -994])


@pytest.mark.parametrize("photometric", ["MONOCHROME2", "MONOCHROME1"])
@pytest.mark.parametrize("packed", ["RLE", "jp2klossless", "jpeg_ls_lossless", "bigendian", "implicit"])
def test_a_syntax_changes_no_value(tmp_path: Path, packed: str, photometric: str) -> None:
    for name in ("MR_small", f"MR_small_{packed}"):
        for place in range(3):
            file = pydicom.dcmread(str(get_testdata_file(f"{name}.dcm", download=False)))
            file.Modality, file.PhotometricInterpretation = "CT", photometric
            file.RescaleSlope, file.RescaleIntercept = 0.5 + place, -1000.0
            file.ImagePositionPatient = [0, 0, 2 * place]
            file.ImageOrientationPatient, file.SOPInstanceUID = [1, 0, 0, 0, 1, 0], generate_uid()
            (tmp_path / name).mkdir(exist_ok=True)
            file.save_as(tmp_path / name / f"{place}.dcm")
    plain, other = (read_volume(Source(folder)).array for folder in sorted(tmp_path.iterdir()))
    stored = pydicom.dcmread(str(get_testdata_file("MR_small.dcm", download=False))).pixel_array
    np.testing.assert_array_equal(plain, [stored * (0.5 + place) - 1000.0 for place in range(3)])
    np.testing.assert_array_equal(other, plain)


def test_an_mr_that_shows_large_values_dark_is_refused(tmp_path: Path) -> None:
    write_ct(tmp_path, Modality="MR", PhotometricInterpretation="MONOCHROME1")
    assert "must show large values bright (MONOCHROME2); it is MONOCHROME1" in refusal(tmp_path)


def test_values_by_a_table_are_refused(tmp_path: Path) -> None:
    table = pydicom.Dataset()
    table.LUTDescriptor, table.ModalityLUTType = [4, 0, 16], "HU"
    table.LUTData = np.array([10, 20, 30, 40], np.uint16).tobytes()
    write_ct(tmp_path, ModalityLUTSequence=[table])
    assert "it has a table instead (Modality LUT Sequence)" in refusal(tmp_path)


@pytest.mark.parametrize("kind", ["MGML", "Z_EFF", "EDW"])
def test_a_map_made_from_a_ct_is_no_ct(tmp_path: Path, kind: str) -> None:
    write_ct(tmp_path, RescaleType=kind)
    assert f"must be in HU; its values are {kind}" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("high", "stored", "signed", "number", "value"),
    [
        (15, 12, 0, 3 << 4, 3),
        (15, 12, 1, 0xFFF0, -1),
        (13, 12, 0, 0xC000 | 7 << 2, 7),
    ],
)
def test_numbers_that_end_above_their_lowest_bit_are_moved_down(
    tmp_path: Path, high: int, stored: int, signed: int, number: int, value: int
) -> None:
    write_ct(
        tmp_path,
        HighBit=high,
        BitsStored=stored,
        PixelRepresentation=signed,
        PixelData=np.full((5, 6), number, np.uint16).tobytes(),
    )
    np.testing.assert_array_equal(read_volume(Source(tmp_path)).array, 2.0 * value - 1000.0)


def test_a_deflated_file_is_named_and_nothing_is_lost_in_silence(tmp_path: Path) -> None:
    write_ct(tmp_path)
    file = BytesIO()
    dataset = pydicom.dcmread(tmp_path / "3.dcm")
    dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1.99"
    dataset.save_as(file)
    (tmp_path / "3.dcm").write_bytes(file.getvalue())
    assert "3.dcm must not be deflated as a whole; it is" in refusal(tmp_path)


def test_a_slice_beside_the_line_of_the_others_is_refused(tmp_path: Path) -> None:
    write_ct(tmp_path, slices=5)
    change(tmp_path / "2.dcm", ImagePositionPatient=[3.0, 0.0, 4.0])
    assert "one lies 3.0 mm beside the line from the first to the last" in refusal(tmp_path)
