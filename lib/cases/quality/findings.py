"""Findings of the pool check, and the verdict on a case that follows from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

CHOSEN = "chosen"  # code of a finding: one of several files of a modality, or of several labels, is used
UNFETCHED = "unfetched"  # code of a finding: the PACS did not deliver a series
LABEL_UNUSABLE = "label_unusable"  # code: the label beside the images cannot be read, or its values not used
LABEL_MISPLACED = "label_misplaced"  # code: the label does not lie on its images; releasing the case frees it

Severity = Literal["warned", "quarantined"]
Status = Literal["ok", "warned", "quarantined"]


@dataclass(frozen=True)
class Finding:
    """One problem of a case.

    Attributes:
        code: Stable code of the problem, for programs.
        severity: Status that the finding gives the case.
        modalities: Affected modalities, the likely cause first.
        sentence: Sentence for a radiographer: what is wrong, by how much, what to do.
        value: Measured value, in the unit of the sentence.
        limit: Limit that the value was compared with.
    """

    code: str
    severity: Severity
    modalities: tuple[str, ...]
    sentence: str
    value: float | None = None
    limit: float | None = None


@dataclass(frozen=True)
class Verdict:
    """Verdict on a case with its findings.

    Attributes:
        status: `ok`, `warned` (served, with a warning) or `quarantined` (not served until it is released).
        findings: Reasons for the status, the graver first.
    """

    status: Status
    findings: tuple[Finding, ...] = ()
