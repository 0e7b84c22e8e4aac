"""Prepared cases in the cache: a damaged one is made again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lib.cases.case import Case, Source
from lib.cases.preprocessing import Preparation, VolumeCache
from lib.cases.records import Records
from tests.support.images import write_image


@pytest.mark.filterwarnings("error::ResourceWarning", "error::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("file", ["case.json", "array.npy", "foreground.npy"])
@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"PK\x03\x04", None, b"half"],
    ids=["empty", "cut", "list", "zip", "gone", "half"],
)
def test_a_damaged_prepared_case_is_made_again(tmp_path: Path, file: str, content: bytes | None) -> None:
    case = Case("a", {"CT": Source(write_image(tmp_path / "a_CT.nii.gz"))})
    with_records = Records(tmp_path / "records.sqlite")
    cache = VolumeCache(tmp_path / "cache", Preparation(("CT",), "CT"), with_records, max_bytes=10**9)
    before = np.array(cache.get(case).array)
    damaged = tmp_path / "cache" / cache.key(case) / file
    if content is None:
        damaged.unlink()
    else:
        damaged.write_bytes(
            damaged.read_bytes()[: damaged.stat().st_size // 2] if content == b"half" else content
        )
    np.testing.assert_array_equal(cache.get(case).array, before)
    assert damaged.stat().st_size > 0
