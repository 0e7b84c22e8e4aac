"""Datastores on small pools, and labels for them."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np

from lib.cases.image import read_grid
from lib.datastores.local import CaseDatastore
from lib.settings import AppSettings
from lib.site import Site


def open_datastore(studies: Path, **settings: object) -> CaseDatastore:
    return CaseDatastore(Site(studies, AppSettings(**settings)))


def label_for(datastore: CaseDatastore, case_id: str, path: Path, value: int = 1) -> Path:
    grid = read_grid(datastore.site.pool.by_id[case_id].modalities["MR_T1"])
    array = np.zeros(grid.shape, dtype=np.uint8)
    array[5:9, 10:20, 10:20] = value
    nib.save(nib.Nifti1Image(array.T, grid.affine), path)
    return path
