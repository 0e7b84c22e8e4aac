"""Datastores on small pools, and labels for them."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np

from lib.cases.formats.image import read_grid
from lib.pipeline.settings import AppSettings
from lib.pipeline.workspace import Workspace
from lib.server.datastore import CaseDatastore


def open_datastore(studies: Path, **settings: object) -> CaseDatastore:
    return CaseDatastore(Workspace(studies, AppSettings(**settings)))


def label_for(workspace: Workspace, case_id: str, path: Path, value: int = 1) -> Path:
    grid = read_grid(workspace.pool.by_id[case_id].modalities["MR_T1"])
    array = np.zeros(grid.shape, dtype=np.uint8)
    array[5:9, 10:20, 10:20] = value
    nib.save(nib.Nifti1Image(array.T, grid.affine), path)
    return path
