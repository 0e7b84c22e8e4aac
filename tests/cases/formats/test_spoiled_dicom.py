"""Spoiled DICOM is an error of its series, in a sentence, in bounded memory and time; others are unharmed."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian

from lib.cases.case import CaseError, Source
from lib.cases.discovery.file_stamps import tree_stamp
from lib.cases.discovery.layouts import find_pool
from lib.cases.formats.dicom import read_series
from lib.cases.formats.dicom_folder import list_series
from lib.cases.formats.image import read_volume
from tests.support.dicom_mutants import nested, spoiled_fields, spoiled_files
from tests.support.images import write_series
from tests.support.spoiled_reading import SECONDS, read_each, run_alone


def write_tiny(folder: Path, **tags: Any) -> Path:
    """A CT of five slices with all that a real one says."""
    usual = {"RescaleSlope": 1.0, "RescaleIntercept": -1024.0, "RescaleType": "HU"}
    write_series(folder, modality="CT", description="thorax", study="1.2.3", **{"slices": 5, **usual, **tags})
    return folder


def changed(folder: Path, number: int, **tags: Any) -> Path:
    """One slice with other tags; None takes one away."""
    file = folder / f"{number}.dcm"
    header = pydicom.dcmread(file)
    for keyword, value in tags.items():
        if value is None:
            del header[keyword]
        else:
            setattr(header, keyword, value)
    header.save_as(file)
    return folder


def refusal(folder: Path) -> str:
    with pytest.raises(CaseError) as caught:
        read_series(folder)
    return str(caught.value)


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("PatientID", "another"),
        ("Modality", "MR"),
        ("PixelSpacing", [1.0, 1.1]),
        ("PixelSpacing", [2.0, 2.0]),
        ("BitsStored", 12),
        ("PixelRepresentation", 1),
        ("StudyInstanceUID", "1.2.9"),
        ("FrameOfReferenceUID", "1.2.9"),
        ("RescaleType", "US"),
        ("Rows", 4),
        ("ImageOrientationPatient", [0, 1, 0, 0, 0, -1]),
    ],
)
def test_a_slice_that_is_not_like_the_others_is_named_with_both_values(
    tmp_path: Path, keyword: str, value: object
) -> None:
    text = refusal(changed(write_tiny(tmp_path), 3, **{keyword: value}))
    assert text.startswith("3.dcm must have the ")
    assert "it has" in text
    assert "0.dcm has" in text


@pytest.mark.parametrize("number", [0, 3])
@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("PixelSpacing", [0.0, 976562.0]),
        ("PixelSpacing", ["nan", "nan"]),
        ("PixelSpacing", [1.0, 1.0, 1.0]),
        ("PixelSpacing", [-1.0, 1.0]),
        ("PixelSpacing", None),
        ("ImageOrientationPatient", [1.0, 0.0, 0.0]),
        ("ImageOrientationPatient", [0.0] * 6),
        ("ImageOrientationPatient", [1, 0, 0, 1, 0, 0]),
        ("ImageOrientationPatient", [2, 0, 0, 0, 2, 0]),
        ("ImagePositionPatient", None),
        ("ImagePositionPatient", ["inf", 0, 0]),
        ("ImagePositionPatient", [1e30, 0, 0]),
        ("Rows", 0),
        ("Columns", None),
        ("BitsAllocated", 64),
        ("SamplesPerPixel", 3),
        ("RescaleSlope", 0.0),
        ("RescaleSlope", "inf"),
        ("RescaleSlope", None),
        ("RescaleIntercept", 1e9),
        ("RescaleIntercept", "nan"),
        ("NumberOfFrames", 2),
        ("SeriesInstanceUID", None),
    ],
)
def test_a_header_that_no_scanner_writes_is_refused_with_its_field(
    tmp_path: Path, number: int, keyword: str, value: object
) -> None:
    folder = changed(write_tiny(tmp_path / "p" / "CT"), number, **{keyword: value})
    assert "Traceback" not in refusal(folder)
    pool = find_pool(tmp_path)
    assert not pool.cases
    assert any(folder == item.path for item in pool.skipped)


@pytest.mark.parametrize("content", [b"", b"text", bytes(128) + b"DICM", bytes(128) + b"DICM\x08\x00\x05"])
def test_a_damaged_file_beside_a_series_may_be_a_slice_of_it(tmp_path: Path, content: bytes) -> None:
    (write_tiny(tmp_path) / "5.dcm").write_bytes(content)
    assert "every DICOM file in" in refusal(tmp_path)


def test_a_cut_slice_is_found_from_its_header(tmp_path: Path) -> None:
    file = write_tiny(tmp_path, Rows=200, Columns=300, PixelData=bytes(2 * 200 * 300)) / "2.dcm"
    file.write_bytes(file.read_bytes()[:-20_000])
    assert "2.dcm of series" in (text := refusal(tmp_path))
    assert "must be whole" in text


@pytest.mark.parametrize("tags", [{"PatientWeight": float("nan")}, {"half_life": 0.0}, {"dose": 1e-300}])
def test_a_pet_whose_dose_makes_no_sense_is_refused(tmp_path: Path, tags: dict[str, float]) -> None:
    tracer = pydicom.Dataset()
    tracer.RadionuclideTotalDose, tracer.RadionuclideHalfLife = (
        tags.get("dose", 3e8),
        tags.get("half_life", 6e3),
    )
    tracer.RadiopharmaceuticalStartTime = "100000"
    write_series(
        tmp_path,
        modality="PT",
        description="",
        study="1.2",
        Units="BQML",
        PatientWeight=tags.get("PatientWeight", 70.0),
        DecayCorrection="START",
        SeriesTime="110000",
        RadiopharmaceuticalInformationSequence=[tracer],
    )
    assert "Its SUV cannot be known" in refusal(tmp_path)


def with_header(folder: Path, extra: bytes) -> Path:
    """One slice with more elements before its group 0008."""
    file = folder / "2.dcm"
    data = file.read_bytes()
    place = data.index(b"\x10\x00\x20\x00LO")  # PatientID, the first after group 0009
    file.write_bytes(data[:place] + extra + data[place:])
    return folder


def test_a_header_of_a_thousand_nested_sequences_or_without_end_is_refused_soon(tmp_path: Path) -> None:
    begin = time.monotonic()
    refusal(with_header(write_tiny(tmp_path / "deep"), nested(1000)))
    endless = b"\x09\x00\x10\x10SQ\0\0\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\0\0\0\0" * 2_000_000
    refusal(with_header(write_tiny(tmp_path / "endless"), endless))
    assert time.monotonic() - begin < SECONDS


def test_a_huge_private_field_is_skipped(tmp_path: Path) -> None:
    size = 50_000_000
    huge = b"\x09\x00\x10\x10OB\0\0" + size.to_bytes(4, "little") + bytes(size)
    assert read_series(with_header(write_tiny(tmp_path), huge)).shape == (5, 5, 6)


def test_a_deflated_file_is_refused_before_it_unfolds(tmp_path: Path) -> None:
    file = write_tiny(tmp_path) / "2.dcm"
    header = pydicom.dcmread(file)
    header.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    header.save_as(file)
    squeeze = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = b"".join(squeeze.compress(bytes(10_000_000)) for _ in range(10)) + squeeze.flush()
    data = file.read_bytes()
    file.write_bytes(data[:400] + bomb)
    assert "2.dcm" in refusal(tmp_path)


def test_more_pixels_than_may_be_are_refused_before_any_is_decoded(tmp_path: Path) -> None:
    write_tiny(tmp_path, Rows=65535, Columns=65535)
    with pytest.raises(CaseError, match="must be whole; its header says 8,589,672,450 bytes"):
        read_volume(Source(tmp_path))


def spoil_and_read(kind: str, path: str) -> None:
    folder = Path(path)
    whole = (folder / "1.dcm").read_bytes()
    copies: Iterator[bytes] = (
        spoiled_files(whole, 1300, seed=1)
        if kind == "files"
        else spoiled_fields(pydicom.dcmread(folder / "1.dcm"), 1300, seed=2)
    )

    def read(data: bytes) -> int:
        (folder / "1.dcm").write_bytes(data)
        finite = 0
        for uid in list_series(folder):
            series = read_series(folder, uid)
            volume = read_volume(Source(folder, series=series.uid))
            finite += bool(np.isfinite(volume.array).all())
        return finite

    read_each(copies, read, between=lambda: find_pool(folder.parent.parent))


@pytest.mark.parametrize("kind", ["files", "fields"])
def test_a_thousand_spoiled_slices_are_read_or_refused_in_a_sentence(tmp_path: Path, kind: str) -> None:
    folder = write_tiny(tmp_path / "p" / "CT", slices=3)
    run_alone(spoil_and_read, kind, str(folder))


DAMAGE: dict[str, Callable[[Path], object]] = {
    "a loop of links": lambda root: (root / "bad").symlink_to(root / "bad"),
    "two links to each other": lambda root: (
        (root / "bad").symlink_to(root / "worse"),
        (root / "worse").symlink_to(root / "bad"),
    ),
    "a name that is no UTF-8": lambda root: os.mkdir(os.fsencode(root) + b"/bad\xff"),
    "a slice whose name is no UTF-8": lambda root: (
        shutil.copytree(root / "good", root / "bad")
        and os.rename(root / "bad" / "CT" / "2.dcm", os.fsencode(root / "bad" / "CT") + b"/2\xff.dcm")
    ),
    "a thousand levels": lambda root: deep(root, 1_200),
    "more levels than a path can name": lambda root: deep(root, 2_500),
    "a link to a folder above": lambda root: (root / "bad").mkdir() or (root / "bad" / "up").symlink_to(root),
    "a slice that lies elsewhere": lambda root: (
        shutil.copytree(root / "good", root / "bad")
        and (root / "bad" / "CT" / "5.dcm").symlink_to("/etc/passwd")
    ),
    "a pipe": lambda root: (root / "bad").mkdir() or os.mkfifo(root / "bad" / "1.dcm"),
}


def deep(root: Path, levels: int) -> None:
    place = os.open(root, os.O_RDONLY)
    for name in ["bad", *"d" * levels]:
        os.mkdir(name, dir_fd=place)
        below = os.open(name, os.O_RDONLY, dir_fd=place)
        os.close(place)
        place = below
    os.close(place)


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_what_cannot_be_read_is_skipped_with_its_reason_and_the_other_patients_are_found(
    tmp_path: Path, damage: Callable[[Path], object]
) -> None:
    root = tmp_path / "studies"
    write_tiny(root / "good" / "CT")
    damage(root)
    try:
        pool = find_pool(root)
        assert [case.id for case in pool.cases] == ["good"]
        for item in pool.skipped:
            str(item).encode()
        if not (root / "bad" / "up").exists() and not (root / "bad" / "1.dcm").exists():
            assert any("bad" in str(item.path) for item in pool.skipped)
        for follow_links in (False, True):
            assert tree_stamp(root, follow_links=follow_links)
    finally:
        subprocess.run(["rm", "-rf", str(root)], check=True)  # pytest's own way ends at a thousand levels


@pytest.mark.parametrize(
    "error", [PermissionError(13, "Permission denied"), OSError(5, "Input/output error")]
)
def test_a_folder_that_nobody_may_read_is_skipped_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: OSError
) -> None:
    for name in ("bad", "good"):
        write_tiny(tmp_path / name / "CT")
    real = os.scandir

    def scandir(path: Any) -> Any:
        if os.fspath(path).startswith(str(tmp_path / "bad")):
            raise error
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)  # root may read everything
    pool = find_pool(tmp_path)
    assert [case.id for case in pool.cases] == ["good"]
    assert any(error.strerror in item.reason for item in pool.skipped)
    assert tree_stamp(tmp_path)
