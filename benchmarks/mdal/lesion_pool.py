"""A labelled pool as the measurement sees it: views of the cases, and the share of lesion in every voxel."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from lib.cases.boxes import Box
from lib.cases.formats.image import resample
from lib.mdal.representation.views import CaseView, PoolViews, Shape, case_view, gather_views, view_box
from lib.mdal.scoring.pmi import Array, Rows, assign_folds
from lib.pipeline.settings import read_settings
from lib.pipeline.workspace import Workspace

FOLDS = 3


@dataclass(frozen=True, eq=False)
class Pool:
    """Views of the labelled cases, and their lesions.

    Attributes:
        views: Views of the N cases.
        lesion: Share of each voxel of a view inside the outline, shape (N, D, H, W).
        volume_ml: Volume of each lesion in ml, shape (N,).
        folds: Fold of each case, shape (N,).
        groups: Patient of each case, shape (N,).
    """

    views: PoolViews
    lesion: NDArray[np.float32]
    volume_ml: Array
    folds: Rows
    groups: Rows


def read_pool(studies: Path, work: Path, view: Shape, cases: int) -> Pool:
    """Views and lesions of the first labelled cases of a pool; prepared cases are kept under `work`."""
    workspace = Workspace(studies, read_settings({"work_dir": str(work)}))
    labelled = [case for case in workspace.pool.cases if case.label][:cases]
    lesions: list[NDArray[np.float32]] = []
    volumes: list[float] = []
    found: list[CaseView] = []
    for case in labelled:
        prepared = workspace.cache.get(case)
        outline = resample(workspace.labels.read(case), prepared.grid, nearest=True).array > 0
        volumes.append(float(outline.sum() * np.prod(prepared.grid.spacing) / 1000.0))
        lesions.append(_on_view(outline, view_box(prepared.foreground), view))
        found.append(case_view(prepared, shape=view))
    views, _ = gather_views(found, len(found), work / f"views-{'x'.join(map(str, view))}.npy")
    patients = np.array([case.patient for case in labelled])
    groups = np.unique(patients, return_inverse=True)[1]
    folds = assign_folds(groups, folds=FOLDS, seed=0)
    return Pool(views, np.stack(lesions), np.array(volumes), folds, groups)


def _on_view(mask: NDArray[np.bool_], box: Box, view: Shape) -> NDArray[np.float32]:
    inside = torch.from_numpy(mask[box].astype(np.float32))[None, None]
    return np.asarray(functional.interpolate(inside, size=view, mode="area")[0, 0].numpy())
