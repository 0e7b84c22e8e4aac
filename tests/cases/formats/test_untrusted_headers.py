"""Headers of image files that say what no image has: each is refused with its sentence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lib.cases.formats.image import read_volume
from tests.support.mutants import pack
from tests.support.untrusted_images import HEADER, VOXELS, nifti, nrrd_file, put, refusal


@pytest.mark.parametrize(
    "line",
    [
        *("data file: other.raw", "datafile: other.raw", "Data File: other.raw", "DATA FILE:other.raw"),
        *("data file: LIST", "data file: %03d.raw 1 9 1", "data  file: /dev/zero", "data file: "),
        *("line skip: 1", "lineskip: 999999999999999", "byte skip: -1", "byteskip: 0", "Byte Skip: 10"),
    ],
)
def test_an_nrrd_that_points_elsewhere_is_refused(tmp_path: Path, line: str) -> None:
    (tmp_path / "other.raw").write_bytes(VOXELS.tobytes())
    source = nrrd_file(tmp_path, HEADER.replace("note:=", f"{line}\nnote:="))
    assert "must hold its voxels right after its header" in refusal(source)
    assert "Export one file that holds both" in refusal(source)


def test_a_writers_own_note_in_an_nrrd_means_nothing(tmp_path: Path) -> None:
    source = nrrd_file(tmp_path, HEADER.replace("note:=", "data file:=/dev/zero\nnote:="))
    np.testing.assert_array_equal(read_volume(source).array, VOXELS)


@pytest.mark.parametrize(
    ("before", "after", "sentence"),
    [
        ("NRRD0004", "NRRD0009", "must be an NRRD file"),
        ("type: short", "type: block", "one real number a voxel"),
        ("type: short", "typo: short", "fields of the NRRD format"),
        ("type: short", "type: short\ntype: short", "give type once"),
        ("dimension: 3", "dimension: 4", "as many sizes as its dimension"),
        ("sizes: 8 7 6", "sizes: 8 7", "as many sizes as its dimension"),
        ("sizes: 8 7 6", "sizes: 8 7 6.5", "as many sizes as its dimension"),
        ("sizes: 8 7 6", "sizes: 8 7 nan", "as many sizes as its dimension"),
        ("sizes: 8 7 6", "sizes: 8 7 -6", "as many sizes as its dimension"),
        ("sizes: 8 7 6", f"sizes: 8 7 {'9' * 5000}", "as many sizes as its dimension"),
        ("sizes: 8 7 6", "sizes: 8 0 6", "one 3-D volume"),
        ("encoding: raw", "encoding: bzip2", "encoded as raw or gzip"),
        ("encoding: raw", "encoding: ascii", "encoded as raw or gzip"),
        ("endian: little", "endian: middle", "endian: little or big"),
        ("endian: little\n", "", "endian: little or big"),
        ("(2,0,0)", "(1e300,0,0)", "within 1 km"),
        ("(2,0,0)", "(1e999,0,0)", "3 vectors of three numbers"),
        ("(2,0,0)", "(1e-5,0,0)", "must measure 0.001 to 1000 mm"),
        ("(2,0,0)", "(5000,0,0)", "must measure 0.001 to 1000 mm"),
        ("(2,0,0)", "(0,0,0)", "must measure 0.001 to 1000 mm"),
        ("(2,0,0)", "(0,2,0)", "finite and invertible"),
        ("(2,0,0)", "(nan,0,0)", "3 vectors of three numbers"),
        ("(2,0,0)", "none", "3 vectors of three numbers"),
        ("(2,0,0)", "(2,0)", "3 vectors of three numbers"),
        ("(2,0,0)", "(1_0,0,0)", "3 vectors of three numbers"),
        ("(10,-5,3)", "(1e30,0,0)", "within 1 km"),
        ("space origin: (10,-5,3)\n", "", "no 'space origin'"),
        ("kinds:", 'space units: "m" "m" "m"\nkinds:', "geometry in mm"),
        ("# written", "#" * 70_000, "end its header with an empty line within 65,536 bytes"),
        ("note:=of the writer's own\n\n", "note:=", "end its header with an empty line"),
    ],
)
def test_an_nrrd_header_that_says_what_no_image_has_is_refused(
    tmp_path: Path, before: str, after: str, sentence: str
) -> None:
    assert before in HEADER
    assert sentence in refusal(nrrd_file(tmp_path, HEADER.replace(before, after)))


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"sizeof_hdr": 0}, "must be a NIfTI file"),
        ({"magic": b"ni1"}, "its header and its voxels"),
        ({"dim": [0, 8, 7, 6, 1, 1, 1, 1]}, "1 to 7 axes"),
        ({"dim": [8, 8, 7, 6, 1, 1, 1, 1]}, "1 to 7 axes"),
        ({"dim": [3, 8, -7, 6, 1, 1, 1, 1]}, "1 to 7 axes"),
        ({"dim": [3, 8, 0, 6, 1, 1, 1, 1]}, "1 to 7 axes"),
        ({"datatype": 32}, "one real number a voxel"),
        ({"datatype": 128}, "one real number a voxel"),
        ({"datatype": 1536}, "one real number a voxel"),
        ({"datatype": 0}, "one real number a voxel"),
        ({"datatype": 16}, "must have 32 bits a voxel"),
        ({"bitpix": 8}, "must have 16 bits a voxel"),
        *(
            ({"vox_offset": value}, "its first voxel 352 to")
            for value in (0, 348, 352.5, 1e9, np.inf, np.nan)
        ),
        *(({"scl_slope": value}, "must have a slope of") for value in (np.inf, -np.inf, 1e30, 1e-30)),
        *(({"scl_slope": 1, "scl_inter": value}, "a finite intercept") for value in (np.inf, np.nan)),
        ({"srow_x": [np.nan, 0, 0, 0], "qform_code": 0}, "within 1 km"),
        ({"srow_x": [1e30, 0, 0, 0], "qform_code": 0}, "within 1 km"),
        ({"srow_x": [2, 0, 0, 1e9], "qform_code": 0}, "within 1 km"),
        ({"srow_x": [1e-6, 0, 0, 0], "qform_code": 0}, "must measure 0.001 to 1000 mm"),
        ({"srow_x": [2, 2, 0, 0], "srow_y": [2, 2, 0, 0], "qform_code": 0}, "finite and invertible"),
        ({"pixdim": [1, -2, 2, 2, 0, 0, 0, 0], "sform_code": 0}, "voxels of a size above 0"),
        ({"pixdim": [7, 2, 2, 2, 0, 0, 0, 0]}, "an orientation of -1 or 1"),
        ({"quatern_b": 2.0, "sform_code": 0}, "unit quaternion"),
        ({"quatern_b": np.nan}, "two positions"),
        ({"xyzt_units": 1}, "geometry in mm"),
        ({"xyzt_units": 3}, "geometry in mm"),
    ],
)
@pytest.mark.parametrize("order", ["<", ">"])
def test_a_nifti_header_that_says_what_no_image_has_is_refused(
    tmp_path: Path, fields: dict[str, object], sentence: str, order: str
) -> None:
    plain = nifti(order=order, **fields)
    assert sentence in refusal(put(tmp_path / "a.nii", plain))
    assert sentence in refusal(put(tmp_path / "a.nii.gz", pack(plain)))
