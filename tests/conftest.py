"""Small pools on disk, and the embedded real patients."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

SAMPLES = Path(__file__).parent.parent / "samples" / "sts"


@pytest.fixture
def samples(tmp_path: Path) -> Callable[..., Path]:
    """Copy real patients into a fresh studies folder: `samples("STS_002", "STS_008")`."""

    def copy(*ids: str, labels: bool = True) -> Path:
        studies = tmp_path / "studies"
        for id in ids or sorted(path.name for path in SAMPLES.iterdir() if path.is_dir()):
            shutil.copytree(SAMPLES / id, studies / id)
            if not labels:
                (studies / id / "GTV.nii.gz").unlink()
        return studies

    return copy
