"""The sample patients in the pool check, as they are and changed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from lib.cases.case import Case
from lib.cases.formats.image import Volume, read_volume, write_nifti
from lib.cases.preprocessing import Preparation
from lib.cases.quality.findings import Verdict
from lib.cases.quality.measurements import measure
from lib.cases.quality.rules import apply_rules

SAMPLES = Path(__file__).parents[2] / "samples" / "sts"
MODALITIES = ("CT", "PET", "MR_T1")
PREPARATION = Preparation(MODALITIES, "MR_T1")


def verdict_on(case: Case, measured: dict[str, dict[str, Any]]) -> Verdict:
    """On a case within the pool of the other patients."""
    return apply_rules({**measured, case.id: measure(case, PREPARATION)}, MODALITIES)[case.id]


def changed(case: Case, modality: str, change: Callable[[Volume], Volume], folder: Path) -> Case:
    """The case with one modality replaced by a changed copy."""
    source = case.modalities[modality]
    volume = change(read_volume(source))
    path = folder / "changed.nii.gz"
    write_nifti(Volume(volume.array / np.float32(source.scale), volume.grid), path)
    return replace(case, modalities={**case.modalities, modality: replace(source, path=path)})


def codes(verdict: Verdict) -> set[str]:
    return {finding.code for finding in verdict.findings}
