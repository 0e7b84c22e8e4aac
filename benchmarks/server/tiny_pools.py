"""Pools of tiny volumes for our server and for MONAI Label's own datastore, and a bare MONAI Label app."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np

RIVAL = """
from monailabel.interfaces.app import MONAILabelApp


class Rival(MONAILabelApp):
    def __init__(self, app_dir, studies, conf):
        super().__init__(app_dir, studies, conf, name="rival")
"""


def make_pools(ours: Path, theirs: Path, count: int) -> list[str]:
    """Write tiny volumes: one folder with CT and PET per case for us, one file per case for the rival."""
    theirs.mkdir(parents=True)
    image = nib.Nifti1Image(np.zeros((8, 8, 8), dtype=np.uint8), np.diag([2.0, 2.0, 2.0, 1.0]))
    header, rng, ids = image.to_bytes()[:-512], np.random.default_rng(0), []
    for number in range(count):
        id = f"case_{number:05}"
        (ours / id).mkdir(parents=True)
        for modality in ("CT", "PET"):
            values = rng.integers(200, size=512, dtype=np.uint8)  # with 255 it would be a picture
            (ours / id / f"{modality}.nii").write_bytes(header + values.tobytes())
        (theirs / f"{id}.nii").write_bytes((ours / id / "CT.nii").read_bytes())
        ids.append(id)
    return ids
