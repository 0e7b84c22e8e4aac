"""A small pool for the studies that divide one."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Ten patients of noise with a brighter box, PET beside what the protocol uses."""
    random = np.random.default_rng(0)
    for number in range(10):
        box = np.zeros((20, 20, 10), dtype=np.uint8)
        box[6 : 9 + number, 6:12, 3:7] = 1
        for name in ("CT", "MR_T1", "PET", "GTV"):
            array = box if name == "GTV" else (random.normal(size=box.shape) * 20 + 40 * box).astype(np.int16)
            file = tmp_path / "pool" / f"p{number:02d}" / f"{name}.nii.gz"
            file.parent.mkdir(parents=True, exist_ok=True)
            nib.save(nib.Nifti1Image(array, np.diag([2.0, 2.0, 3.0, 1.0])), file)
    return tmp_path / "pool"
