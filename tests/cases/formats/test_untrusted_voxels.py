"""Voxels of every type are read as they were written; too few, too many or absurd ones are refused."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from lib.cases.case import Case, CaseError
from lib.cases.formats.image import read_volume
from lib.cases.preprocessing import Preparation, prepare
from tests.support.mutants import pack
from tests.support.untrusted_images import HEADER, VOXELS, nifti, nrrd_file, put


@pytest.mark.parametrize("by", [-100, -1, 1, 100])
def test_unpacked_voxels_of_another_number_than_the_header_says_are_refused(tmp_path: Path, by: int) -> None:
    for source in (
        put(tmp_path / "a.nii", resized(nifti(), by)),
        nrrd_file(tmp_path, HEADER, resized(VOXELS.tobytes(), by)),
    ):
        with pytest.raises(CaseError, match="must be complete"):
            read_volume(source)


def resized(data: bytes, by: int) -> bytes:
    return data[:by] if by < 0 else data + bytes(by)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"])
def test_every_type_in_either_byte_order_is_read_as_nibabel_reads_it(
    tmp_path: Path, dtype: str, order: str
) -> None:
    values = np.arange(126).reshape(3, 6, 7).astype(dtype)
    plain = nifti(values, order=order, scl_slope=0.5, scl_inter=-3.0)
    source = put(tmp_path / "a.nii.gz", pack(plain))
    expected = np.asarray(nib.load(source.path).dataobj).T
    np.testing.assert_array_equal(read_volume(source).array, expected.astype(np.float32))


@pytest.mark.parametrize("extension", [0, 16, 100_000], ids=["no extension", "an empty one", "a long one"])
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_an_extension_is_skipped(tmp_path: Path, extension: int, name: str) -> None:
    plain = nifti(vox_offset=352 + extension)
    plain = plain[:352] + b"\xff" * extension + plain[352:]
    source = put(tmp_path / name, pack(plain) if name.endswith("gz") else plain)
    np.testing.assert_array_equal(read_volume(source).array, VOXELS)


@pytest.mark.parametrize("value", [1e38, -1e10, 1.1e9])
def test_one_value_that_no_image_has_is_refused_with_its_number(tmp_path: Path, value: float) -> None:
    values = VOXELS.T.astype(np.float32)
    values[2, 3, 4] = value
    with pytest.raises(CaseError, match=r"must hold values between.*; 1 of 336 voxels are beyond"):
        read_volume(put(tmp_path / "a.nii", nifti(values)))
    header = HEADER.replace("short", "float")
    with pytest.raises(CaseError, match=r"; 1 of 336 voxels are beyond"):
        read_volume(nrrd_file(tmp_path, header, values.tobytes(order="F")))


def test_values_that_become_absurd_by_type_or_slope_are_refused(tmp_path: Path) -> None:
    values = VOXELS.T.astype(np.float64)
    values[2, 3, 4] = 1e300  # infinite as float32
    with pytest.raises(CaseError, match=r"; 1 of 336 voxels are beyond"):
        read_volume(put(tmp_path / "a.nii", nifti(values)))
    with pytest.raises(CaseError, match=r"; 335 of 336 voxels are beyond"):
        read_volume(put(tmp_path / "a.nii", nifti(scl_slope=9e8, scl_inter=2e8)))
    with pytest.raises(CaseError, match=r"; 336 of 336 voxels are beyond"):
        read_volume(put(tmp_path / "a.nii", nifti(scl_slope=1, scl_inter=1e10)))


def test_values_that_are_no_numbers_are_counted_when_a_case_is_prepared(tmp_path: Path) -> None:
    values = VOXELS.T.astype(np.float32)
    values[0, 0, :3] = (np.nan, np.inf, -np.inf)
    source = put(tmp_path / "a.nii", nifti(values))
    with pytest.raises(CaseError, match=r"; 3 of 336 voxels are NaN or infinity"):
        prepare(Case("a", {"CT": source}), Preparation(("CT",), "CT"))
