"""Spoiled segmentations: an error in a sentence, in bounded memory and time."""

from __future__ import annotations

import time
import zlib
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEG2000Lossless, RLELossless

from lib.cases.case import CaseError, Source
from lib.cases.dicom_seg.read import describe, parse, read_segmentation
from lib.cases.dicom_seg.timestamps import read_moment
from lib.cases.dicom_seg.write import Author, write_segmentation
from lib.cases.formats.dicom import read_series
from lib.cases.formats.image import Grid, Volume, read_grid
from lib.cases.formats.slice_places import SlicePlaces
from tests.support.dicom_mutants import nested, spoiled_fields, spoiled_files
from tests.support.images import write_series
from tests.support.spoiled_reading import SECONDS, read_each, run_alone

LABELS = {"core": 1, "edema": 2}


def tiny_seg(folder: Path) -> tuple[Dataset, Grid]:
    """A segmentation of two structures on two slices."""
    write_series(folder, modality="MR", description="t1", study="1.2.3", slices=2)
    grid = read_grid(Source(folder))
    array = np.zeros(grid.shape, np.uint8)
    array[:, 1:4, 2:5], array[1, 4, 4] = 1, 2
    written = datetime(2025, 3, 4, tzinfo=UTC)
    seg = write_segmentation(
        Volume(array, grid), read_series(folder), labels=LABELS, author=Author("a"), written=written
    )
    return seg, grid


def bytes_of(dataset: Dataset) -> bytes:
    file = BytesIO()
    dataset.save_as(file, write_like_original=False)
    return file.getvalue()


def read(data: bytes, grid: Grid) -> Volume:
    dataset = parse(data)
    describe(dataset)
    return read_segmentation(dataset, SlicePlaces(grid.shape, grid.affine), labels=LABELS)


def spoil_and_read(kind: str, folder: str) -> None:
    seg, grid = tiny_seg(Path(folder))
    whole = bytes_of(seg)
    assert read(whole, grid).array.any()
    copies = spoiled_files(whole, 1300, seed=3) if kind == "files" else spoiled_fields(seg, 1300, seed=4)
    read_each(copies, lambda data: bool(read(data, grid).array.any()))


@pytest.mark.parametrize("kind", ["files", "fields"])
def test_a_thousand_spoiled_segmentations_are_read_or_refused_in_a_sentence(
    tmp_path: Path, kind: str
) -> None:
    run_alone(spoil_and_read, kind, str(tmp_path / "images"))


@pytest.mark.parametrize(
    "claim",
    [
        {"Rows": 65535, "Columns": 65535},
        {"NumberOfFrames": 2_000_000_000},
        {"Rows": 0},
        {"BitsAllocated": 32},
        {"SamplesPerPixel": 60_000},
    ],
)
def test_a_header_that_claims_too_much_is_refused_before_pixels_are_decoded(
    tmp_path: Path, claim: dict[str, Any]
) -> None:
    seg, grid = tiny_seg(tmp_path)
    for keyword, value in claim.items():
        setattr(seg, keyword, value)
    begin = time.monotonic()
    with pytest.raises(CaseError, match=r"a segmentation must have at most|must be complete"):
        read(bytes_of(seg), grid)
    assert time.monotonic() - begin < SECONDS


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless])
def test_compressed_frames_that_unfold_beyond_their_header_are_refused(tmp_path: Path, syntax: str) -> None:
    seg, grid = tiny_seg(tmp_path)
    seg.SegmentationType, seg.MaximumFractionalValue, seg.BitsAllocated, seg.BitsStored = (
        "FRACTIONAL",
        255,
        8,
        8,
    )
    seg.HighBit, seg.file_meta.TransferSyntaxUID = 7, syntax
    run_lengths = (1).to_bytes(4, "little") + (64).to_bytes(4, "little") + bytes(56) + b"\x81\x01" * 5_000_000
    # the beginning of a JPEG 2000 stream of 60,000 x 60,000 pixels
    size = b"".join(value.to_bytes(4, "big") for value in (60_000, 60_000, 0, 0, 60_000, 60_000, 0, 0))
    stream = b"\xff\x4f\xff\x51\x00\x29\x00\x00" + size + b"\x00\x01\x07\x01\x01" + bytes(100)
    bomb = run_lengths if syntax == RLELossless else stream
    frames = len(seg.PerFrameFunctionalGroupsSequence)
    seg.PixelData = encapsulate([bomb, *[b"\0\0"] * (frames - 1)])
    seg["PixelData"].is_undefined_length = True
    begin = time.monotonic()
    with pytest.raises(CaseError):
        read(bytes_of(seg), grid)
    assert time.monotonic() - begin < SECONDS


def test_a_header_without_end_nested_or_deflated_is_refused_soon(tmp_path: Path) -> None:
    seg, grid = tiny_seg(tmp_path)
    whole = bytes_of(seg)
    place = whole.index(b"\x10\x00\x10\x00PN")
    endless = b"\x09\x00\x10\x10SQ\0\0\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\0\0\0\0" * 1_000_000
    seg.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    squeeze = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = b"".join(squeeze.compress(bytes(10_000_000)) for _ in range(10)) + squeeze.flush()
    place_of_frames = whole.index(b"\x00\x52\x30\x92SQ")
    items = b"\xfe\xff\x00\xe0\0\0\0\0" * 1_000_000
    long = b"\x00\x52\x30\x92SQ\0\0" + len(items).to_bytes(4, "little") + items
    for data in (
        whole[:place_of_frames] + long,
        whole[:place] + nested(1000) + whole[place:],
        whole[:place] + endless + whole[place:],
        bytes_of(seg)[:400] + bomb,
        b"",
        bytes(128) + b"DICM",
    ):
        with pytest.raises(CaseError):
            read(data, grid)


def test_a_time_far_ahead_of_now_counts_as_unknown_and_a_zone_ahead_does_not() -> None:
    dataset = Dataset()
    for ahead, known in (
        (timedelta(hours=14), True),
        (timedelta(days=2), False),
        (timedelta(days=27_000), False),
    ):
        moment = datetime.now(UTC) + ahead
        dataset.ContentDate, dataset.ContentTime = f"{moment:%Y%m%d}", f"{moment:%H%M%S}"
        dataset.TimezoneOffsetFromUTC = "+0000"
        assert (read_moment(dataset) is not None) == known
    for date, clock, offset in (("00010101", "000000", "+1400"), ("99991231", "235959", "-1400")):
        dataset.ContentDate, dataset.ContentTime, dataset.TimezoneOffsetFromUTC = date, clock, offset
        assert read_moment(dataset) is None
