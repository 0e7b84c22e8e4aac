"""Datastores on small pools, and labels for them."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np

from lib.cases.discovery.file_stamps import FileStamps
from lib.cases.formats.image import read_grid
from lib.cases.quality.findings import Verdict
from lib.cases.quality.kept_check import KeptCheck, case_stamps
from lib.cases.quality.label_rules import with_label_findings
from lib.cases.quality.measurements import measure
from lib.cases.quality.rules import apply_rules
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


def check_here(workspace: Workspace) -> dict[str, Verdict]:
    """Pool check in this process, as another takes seconds to start; the workspace keeps the result."""
    facts = {case.id: measure(case, workspace.preparation) for case in workspace.pool.cases}
    labels = {id: measured["label"] for id, measured in facts.items() if "label" in measured}
    refused = workspace.label_meanings.refusals(labels)
    verdicts = with_label_findings(apply_rules(facts, workspace.pool.modalities), facts, refused)
    stamps = FileStamps.of(workspace.pool)
    workspace.verdicts.keep(KeptCheck(workspace._checked_state(stamps), verdicts, case_stamps(stamps)))
    return verdicts
