"""Seven of the samples in a folder of their own, for processes that are killed while they work on them."""

from __future__ import annotations

import shutil
from pathlib import Path

from benchmarks.common.folders import SAMPLES

PATIENTS = ("STS_002", "STS_008", "STS_018", "STS_024", "STS_025", "STS_041", "STS_042")


def copy_of_samples(folder: Path) -> Path:
    """Copy seven samples into a folder that may be changed."""
    for name in PATIENTS:
        shutil.copytree(SAMPLES / name, folder / name)
    return folder
