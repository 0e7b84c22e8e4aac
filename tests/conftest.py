"""Small pools on disk, and the embedded real patients."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

SAMPLES = Path(__file__).parent.parent / "samples" / "sts"


def write_image(
    path: Path, *, shape: tuple[int, ...] = (6, 7, 8), seed: int = 0, spacing: float = 2.0
) -> Path:
    """A small NIfTI of noise on a grid with an offset; made along with its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    affine = np.diag([spacing, spacing, spacing, 1.0])
    affine[:3, 3] = (-10.0, 5.0, 3.0)
    values = np.random.default_rng(seed).integers(0, 100, shape).astype(np.int16)
    nib.save(nib.Nifti1Image(values, affine), path)
    return path


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
