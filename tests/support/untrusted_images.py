"""Image files whose header or bytes a test changes, and the sentence that refuses one."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from lib.cases.case import CaseError, Source
from lib.cases.formats.image import read_grid, read_volume
from tests.support.mutants import NRRD

VOXELS = np.arange(336, dtype=np.int16).reshape(6, 7, 8)  # (D, H, W)
HEADER = NRRD.format(type="short", encoding="raw")
GZIPPED = NRRD.format(type="short", encoding="gzip").encode()


def put(path: Path, data: bytes) -> Source:
    path.write_bytes(data)
    return Source(path)


def nrrd_file(folder: Path, header: str = HEADER, voxels: bytes = VOXELS.tobytes()) -> Source:
    return put(folder / "a.nrrd", header.encode() + voxels)


def nifti(values: np.ndarray = VOXELS.T, *, order: str = "<", **fields: object) -> bytes:
    """A NIfTI file with some fields of its header changed after it was made."""
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    header = nib.Nifti1Header(endianness=order)
    header.set_data_dtype(values.dtype)
    image = nib.Nifti1Image(values, affine, header)
    image.set_qform(affine, 1)
    data = bytearray(image.to_bytes())
    block = np.frombuffer(data, dtype=nib.Nifti1Header.template_dtype.newbyteorder(order), count=1)
    for name, value in fields.items():
        block[name][0] = value
    return bytes(data)


def refusal(source: Source) -> str:
    """The sentence that both readers refuse a file with."""
    with pytest.raises(CaseError) as by_header:
        read_grid(source)
    with pytest.raises(CaseError) as by_voxels:
        read_volume(source)
    assert str(by_header.value) == str(by_voxels.value)
    assert source.path.name in str(by_header.value)
    return str(by_header.value)
