"""Images and labels with more than one number a voxel are refused by name, never read as grey."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import nrrd
import numpy as np
import pytest

from lib.cases.case import CaseError, Source
from lib.cases.discovery.layouts import find_pool
from lib.cases.formats.image import read_label_map, read_segments, read_volume
from tests.support.images import write_nrrd, write_series

RGB = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])
RGBA = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1"), ("A", "u1")])


def refusals(path: Path) -> list[str]:
    """The sentences that a file is refused with as an image and as a label."""
    sentences = []
    for read in (read_volume, read_label_map):
        with pytest.raises(CaseError) as caught:
            read(Source(path))
        sentences.append(str(caught.value))
    return sentences


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.zeros((4, 5, 6), RGB), "type 128, colours (RGB)"),
        (np.zeros((4, 5, 6), RGBA), "type 2304, colours (RGBA)"),
        (np.zeros((4, 5, 6), np.complex64), "type 32, complex numbers"),
        (np.zeros((4, 5, 6), np.complex128), "type 1792, complex numbers"),
        (np.zeros((4, 5, 6, 1, 3), np.float32), "got shape (4, 5, 6, 1, 3), 3 numbers a voxel (a vector"),
        (np.zeros((4, 5, 6, 1, 2), np.uint8), "2 numbers a voxel"),
        (np.zeros((4, 5, 6, 3), np.uint8), "must be one 3-D volume; got shape (4, 5, 6, 3)"),
    ],
    ids=["RGB", "RGBA", "complex", "double complex", "vector", "luminance and alpha", "4-D"],
)
def test_a_nifti_of_several_numbers_a_voxel_is_refused_with_what_it_holds(
    tmp_path: Path, array: np.ndarray, reason: str
) -> None:
    image = nib.Nifti1Image(array, np.eye(4))
    if array.ndim == 5:
        image.header.set_intent("vector")
    nib.save(image, tmp_path / "x.nii.gz")
    assert all(reason in sentence for sentence in refusals(tmp_path / "x.nii.gz"))


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("RGB-color", "says colours (an axis of the kind RGB-color)"),
        ("RGBA-color", "says colours"),
        ("3-color", "says colours"),
        ("vector", "several numbers a voxel (an axis of the kind vector)"),
        ("list", "several numbers a voxel"),
        ("complex", "several numbers a voxel"),
        ("2-vector", "several numbers a voxel"),
        ("time", "several numbers a voxel"),
    ],
)
@pytest.mark.parametrize("axes", [3, 4])
def test_an_nrrd_with_an_axis_that_is_not_in_space_is_refused_with_its_kind(
    tmp_path: Path, kind: str, reason: str, axes: int
) -> None:
    array = np.zeros((3, 4, 5, 6)[-axes:], dtype=np.uint8)
    header: dict[str, object] = {"kinds": [kind, *["domain"] * (axes - 1)]}
    if axes == 4:
        header |= {
            "space": "left-posterior-superior",
            "space directions": [[np.nan] * 3, *np.eye(3).tolist()],
            "space origin": np.zeros(3),
        }
        nrrd.write(str(tmp_path / "x.nrrd"), array, header)
    else:
        write_nrrd(tmp_path / "x.nrrd", **header)
    assert all(reason in sentence for sentence in refusals(tmp_path / "x.nrrd"))


@pytest.mark.parametrize("kinds", [["domain"] * 3, ["space"] * 3, None])
def test_an_nrrd_of_grey_values_is_read(tmp_path: Path, kinds: list[str] | None) -> None:
    write_nrrd(tmp_path / "x.nrrd", kinds=kinds)
    assert read_volume(Source(tmp_path / "x.nrrd")).array.max() == 59


@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        (
            {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 0},
            "its header says RGB and 3 samples a pixel (colours)",
        ),
        ({"SamplesPerPixel": 3, "PhotometricInterpretation": "YBR_FULL"}, "its header says YBR_FULL and 3"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "its header says PALETTE COLOR and 1 samples"),
        ({"SamplesPerPixel": 3}, "its header says MONOCHROME2 and 3 samples"),
    ],
)
def test_a_dicom_series_of_colours_is_left_out_with_the_reason(
    tmp_path: Path, tags: dict[str, object], reason: str
) -> None:
    write_series(tmp_path / "p1" / "CT", modality="CT", description="", study="1.2", **tags)
    pool = find_pool(tmp_path)
    assert not pool.cases
    assert reason in " ".join(item.reason for item in pool.skipped)


def test_a_segment_without_a_value_is_refused_and_one_with_both_is_named(tmp_path: Path) -> None:
    write_nrrd(tmp_path / "x.nrrd", Segment0_Name="ribs", Segment0_LabelValue="4")
    assert read_segments(Source(tmp_path / "x.nrrd")) == (("ribs", 4),)
    write_nrrd(tmp_path / "y.nrrd", Segment0_Name="ribs")
    with pytest.raises(CaseError, match="Segment0 has the name 'ribs' and the value ''"):
        read_segments(Source(tmp_path / "y.nrrd"))
