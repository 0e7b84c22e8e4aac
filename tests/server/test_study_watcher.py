"""When the pool is checked again while a server runs."""

from __future__ import annotations

from pathlib import Path
from subprocess import CompletedProcess

import nibabel as nib
import numpy as np

from lib.pipeline.workspace import Workspace
from lib.server.study_watcher import StudyWatcher
from tests.support.images import write_body
from tests.support.pools import check_here, open_datastore


def test_a_new_label_beside_the_images_is_checked_although_no_image_changed(tmp_path: Path) -> None:
    write_body(tmp_path / "p1" / "T1.nii.gz")
    workspace = open_datastore(tmp_path).workspace
    checks = []

    def run_check(checked: Workspace) -> CompletedProcess[str]:
        checks.append(checked.pool)
        check_here(checked)
        return CompletedProcess([], 0)

    watcher = StudyWatcher(workspace, on_checked=lambda: None, run_check=run_check)

    def look() -> int:
        watcher.listed(workspace.refresh())
        if watcher._checking.is_alive():
            watcher._checking.join()
        return len(checks)

    watcher._start_check()
    watcher._checking.join()
    assert look() == 1
    nib.save(nib.Nifti1Image(np.ones((24, 20, 16), np.uint8), np.eye(4)), tmp_path / "p1" / "GTV.nii.gz")
    assert look() == 2
    assert workspace.verdicts.labels_held == {"p1"}
    assert look() == 2
