"""A private Orthanc, and the tests that need one."""

from __future__ import annotations

import os
from pathlib import Path

import pydicom
import pytest
from pydicom.uid import generate_uid

from benchmarks.common.orthanc import MISSING, Orthanc, is_installed, orthanc

__all__ = ["Orthanc", "orthanc", "skip_without_orthanc", "upload_changed"]


def skip_without_orthanc() -> None:
    """Skip the test where Orthanc is not installed; with CI=true that is a failure."""
    if not is_installed():
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(MISSING)


def upload_changed(
    server: Orthanc, folder: Path, tmp_path: Path, *, brighter: int = 0, **values: str
) -> None:
    """A series of the samples with other headers, and with every stored value larger by `brighter`."""
    changed = tmp_path / generate_uid()
    changed.mkdir()
    for file in sorted(folder.glob("*.dcm")):
        slice_ = pydicom.dcmread(file)
        stored = slice_.pixel_array
        slice_.PixelData = (stored + brighter).astype(stored.dtype).tobytes()
        for name, value in values.items():
            setattr(slice_, name, value)
        slice_.SOPInstanceUID = slice_.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        slice_.save_as(changed / file.name)
    server.upload(sorted(changed.glob("*.dcm")))
