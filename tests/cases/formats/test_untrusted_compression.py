"""Compressed image files: a stream is whole, or it is refused."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lib.cases.case import CaseError
from lib.cases.formats.image import read_volume
from tests.support.mutants import pack
from tests.support.untrusted_images import GZIPPED, VOXELS, nifti, put, refusal


def _changed(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :] if place else data


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "a wrong checksum": lambda plain: _changed(pack(plain), -8),
    "a wrong length": lambda plain: _changed(pack(plain), -4)[:-1] + b"\x01",
    "no trailer": lambda plain: pack(plain)[:-8],
    "half a trailer": lambda plain: pack(plain)[:-4],
    "half of it": lambda plain: pack(plain)[: len(pack(plain)) // 2],
    "a tail": lambda plain: pack(plain) + b"tail",
    "a tail of zeros": lambda plain: pack(plain) + bytes(512),
    "one byte too many": lambda plain: pack(plain + b"\0"),
    "one byte too few": lambda plain: pack(plain[:-1]),
    "a member too many": lambda plain: pack(plain) + pack(b"\0"),
    "a damaged empty member": lambda plain: pack(plain) + _changed(pack(b""), -8),
    "members without end": lambda plain: pack(b"") * 70_000 + pack(plain),
    "stored bytes changed": lambda plain: _changed(gzip.compress(plain, compresslevel=0, mtime=0), 500),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("kind", ["nifti", "nrrd"])
def test_a_gzip_stream_that_is_not_whole_is_refused(tmp_path: Path, damage: str, kind: str) -> None:
    if kind == "nifti":
        source = put(tmp_path / "a.nii.gz", DAMAGES[damage](nifti()))
    else:
        source = put(tmp_path / "a.nrrd", GZIPPED + DAMAGES[damage](VOXELS.tobytes()))
    with pytest.raises(CaseError, match=r"must be complete.*Copy or export it again"):
        read_volume(source)


def test_members_one_after_another_are_one_content_as_bgzip_writes_it(tmp_path: Path) -> None:
    plain = nifti()
    pieces = [plain[:100], plain[100:400], plain[400:], b""]
    source = put(tmp_path / "a.nii.gz", b"".join(pack(piece) for piece in pieces))
    np.testing.assert_array_equal(read_volume(source).array, VOXELS)


@pytest.mark.parametrize(("name", "pack_it"), [("a.nii", True), ("a.nii.gz", False)])
def test_a_file_is_packed_as_its_name_says(tmp_path: Path, name: str, pack_it: bool) -> None:
    source = put(tmp_path / name, pack(nifti()) if pack_it else nifti())
    assert "must be named for what it holds" in refusal(source)
