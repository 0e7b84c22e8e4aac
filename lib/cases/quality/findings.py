"""What the pool check finds in a case, and the verdict on the case that follows from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

UNFETCHED = "unfetched"  # code of a finding: a PACS did not give a series

Severity = Literal["warned", "quarantined"]
Status = Literal["ok", "warned", "quarantined"]


@dataclass(frozen=True)
class Finding:
    """One reason for doubt.

    Attributes:
        code: Stable word for programs.
        severity: What it makes of the case.
        modalities: Those concerned, the likely culprit first.
        sentence: For a radiographer: what is wrong, by how much, what to do.
        value: What was measured, in the sentence's unit.
        limit: What it was held against.
    """

    code: str
    severity: Severity
    modalities: tuple[str, ...]
    sentence: str
    value: float | None = None
    limit: float | None = None


@dataclass(frozen=True)
class Verdict:
    """`ok`, `warned` (served, with its reasons) or `quarantined` (not served until someone has looked)."""

    status: Status
    findings: tuple[Finding, ...] = ()
