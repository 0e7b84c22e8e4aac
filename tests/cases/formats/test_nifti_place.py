"""A NIfTI file lies where ITK, and so 3D Slicer, puts it; a header that leaves its place open is refused."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from lib.cases.case import CaseError, Source
from lib.cases.formats.image import Grid, Volume, read_grid, read_label_map, read_volume, write_nifti
from tests.support.images import write_image
from tests.support.mutants import pack
from tests.support.untrusted_images import put, refusal
from tests.support.viewer_place import apart_mm, nifti_file, seen_by_itk

AXES = np.array([[1.0, 0.0, 0.0, 10.0], [0.0, 1.5, 0.0, 20.0], [0.0, 0.0, 2.0, 30.0]])


def sform(matrix: np.ndarray = AXES, code: int = 1) -> dict[str, object]:
    return {"sform_code": code, "srow_x": matrix[0], "srow_y": matrix[1], "srow_z": matrix[2]}


def qform(x: float = 10.0, code: int = 1) -> dict[str, object]:
    return {"qform_code": code, "qoffset_x": x, "qoffset_y": 20.0, "qoffset_z": 30.0}


def with_entry(row: int, column: int, value: float) -> np.ndarray:
    matrix = AXES.copy()
    matrix[row, column] = value
    return matrix


@pytest.mark.parametrize(
    "codes",
    [{}, sform(code=0), qform(code=0), sform(code=-1), qform(code=-1), sform(code=-2) | qform(code=0)],
)
@pytest.mark.parametrize("name", ["a.nii", "A.NII.GZ"])
def test_a_file_that_does_not_say_where_it_lies_is_refused(
    tmp_path: Path, codes: dict[str, object], name: str
) -> None:
    data = nifti_file(**codes)
    source = put(tmp_path / name, pack(data) if name.endswith("GZ") else data)
    assert "must say where it lies in the patient" in refusal(source)
    with pytest.raises(CaseError, match="Export it again with its position"):
        read_label_map(source)


@pytest.mark.parametrize(
    "fields",
    [
        *(sform(code=code) for code in (1, 2, 3, 4, 5, 300)),
        *(qform(code=code) for code in (1, 2, 4)),
        sform(code=-1) | qform(),
        sform() | qform(code=-1, x=99.0),
        sform(np.diag([-1.0, 1.0, 1.0]) @ AXES),
        qform() | {"pixdim": [-1, 1, 1.5, 2, 0, 0, 0, 0]},
        qform() | {"pixdim": [0, 1, 1.5, 2, 0, 0, 0, 0]},
        *(sform(code=code) | qform(x=10.3) for code in (1, 2, 4)),
        *(sform(with_entry(0, 0, 1.05), code) for code in (1, 2)),
        *(sform(with_entry(0, 1, 1.2e-4), code) for code in (1, 2)),
        *(sform(with_entry(0, 1, 2e-3), code) | qform() for code in (1, 2)),
        qform() | {"quatern_b": 0.3, "quatern_c": 0.4, "quatern_d": -0.2},
        *(qform() | {"quatern_b": np.sqrt(1 - rest)} for rest in (0.0, 5e-8, 9e-8, 2e-7, 1e-6)),
        qform() | {"quatern_b": np.float32(1.0000001)},
        qform() | {"xyzt_units": 0},
        sform() | {"xyzt_units": 10, "toffset": 4.0, "dim": [5, 5, 4, 3, 1, 1, 0, 0], "intent_code": 1002},
        sform() | {"dim": [3, 5, 4, 3, 9, 9, 9, 9], "slice_code": 3, "dim_info": 57},
    ],
)
@pytest.mark.parametrize("order", ["<", ">"])
def test_a_file_lies_where_itk_puts_it(tmp_path: Path, fields: dict[str, object], order: str) -> None:
    source = put(tmp_path / "a.nii", nifti_file(order=order, **fields))
    seen = seen_by_itk(source.path)
    assert apart_mm(read_grid(source), seen.grid) < 1e-3
    np.testing.assert_array_equal(read_volume(source).array, seen.array)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        (sform(AXES * 3.0), r"two positions (sform with pixdim, sform)"),
        (sform(with_entry(0, 0, 1.2)), r"two positions (sform with pixdim, sform) 1.0 mm apart"),
        (sform() | {"pixdim": [1, -1, 1.5, 2, 0, 0, 0, 0]}, "voxels of a size above 0"),
        (sform() | {"pixdim": [1, 0, 1.5, 2, 0, 0, 0, 0]}, "voxels of a size above 0"),
        (sform() | {"pixdim": [1, np.nan, 1.5, 2, 0, 0, 0, 0]}, "voxels of a size above 0"),
        (sform(with_entry(0, 1, 2e-3)), "its sform is sheared"),
        (sform(with_entry(0, 1, 0.3)), "the axes must be at right angles"),
        (sform(with_entry(0, 1, 0.3)) | qform(), "the axes must be at right angles"),
        *((sform(code=code) | qform(x=11.0), "two positions") for code in (1, 2, 3, 4, 5)),
        (sform() | qform() | {"quatern_b": 0.5}, "two positions (sform with pixdim, qform)"),
        (sform(code=2) | qform() | {"quatern_b": 0.5}, "two positions (qform, sform)"),
        (qform() | {"quatern_b": 1.01}, "unit quaternion"),
        (qform() | {"quatern_b": np.nan}, "within 1 km"),
        *((sform() | {"xyzt_units": unit}, "geometry in mm") for unit in (1, 3, 4, 5)),
        *((sform() | {"intent_code": code}, "one real number a voxel") for code in (1004, 1005, 1006, 1007)),
        (sform() | {"dim": [2, 5, 12, 1, 1, 1, 1, 1]}, "must be a 3-D volume; it is a single slice"),
        (sform() | {"magic": b"ni1"}, "Export one .nii file"),
        *(
            (sform() | {"scl_slope": slope, "scl_inter": -1024}, "slope beside its intercept")
            for slope in (0, np.nan)
        ),
    ],
)
def test_a_header_that_readers_take_for_two_volumes_or_none_is_refused(
    tmp_path: Path, fields: dict[str, object], sentence: str
) -> None:
    assert sentence in refusal(put(tmp_path / "a.nii", nifti_file(**fields)))


def test_half_a_small_voxel_is_the_most_that_two_positions_may_differ(tmp_path: Path) -> None:
    fine = {"pixdim": [1, 0.2, 0.2, 0.2, 0, 0, 0, 0]}
    matrix = np.hstack([np.eye(3) * 0.2, AXES[:, 3:]])
    assert "two positions" in refusal(
        put(tmp_path / "a.nii", nifti_file(**sform(matrix), **qform(10.15), **fine))
    )
    read_grid(put(tmp_path / "b.nii", nifti_file(**sform(matrix), **qform(10.05), **fine)))


@pytest.mark.parametrize("order", ["<", ">"])
def test_nifti_2_which_slicer_does_not_open_is_refused_by_its_name(tmp_path: Path, order: str) -> None:
    header = nib.Nifti2Header(endianness=order)
    image = nib.Nifti2Image(np.zeros((5, 4, 3), np.int16), np.eye(4), header)
    assert "Save it as NIfTI-1" in refusal(put(tmp_path / "a.nii", image.to_bytes()))


def test_a_name_in_capitals_is_read(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.nii.gz").rename(tmp_path / "X.NII.GZ")
    assert apart_mm(read_grid(Source(path)), seen_by_itk(path).grid) < 1e-3


@pytest.mark.parametrize("cosine", [0.0, 5e-5, 2e-4, 1e-3])
def test_a_written_volume_lies_where_itk_and_nibabel_put_it_although_dicom_rounds_its_directions(
    tmp_path: Path, cosine: float
) -> None:
    affine = np.diag([2.0, 2.0, 3.0, 1.0])
    affine[:3, 3], affine[0, 1] = (-100.0, 50.0, 7.0), 2.0 * cosine
    volume = Volume(np.arange(60, dtype=np.int16).reshape(3, 4, 5), Grid((3, 4, 5), affine))
    write_nifti(volume, tmp_path / "a.nii.gz", durable=False)
    seen = seen_by_itk(tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(seen.array, volume.array)
    assert apart_mm(seen.grid, read_grid(Source(tmp_path / "a.nii.gz"))) < 1e-3
    assert apart_mm(seen.grid, volume.grid) < 1e-3 + 10.0 * cosine
    assert np.abs(nib.load(tmp_path / "a.nii.gz").affine - affine).max() < 1e-4
