"""Result of the pool check: findings of each case, worst first, and the two images that show them."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence
from typing import Any

from lib.cases.case import Case
from lib.cases.quality.check import PoolReport
from lib.cases.quality.findings import Finding, Verdict
from lib.cases.quality.releases import reasons
from lib.pipeline.checking import CHECK_JOB
from lib.pipeline.workspace import Workspace
from lib.runtime.words import counted
from lib.views.documents.today import empty_sentence

FINDING_NAMES = {  # names of findings by code
    "missing": "modality missing",
    "chosen": "one of several files used",
    "unfetched": "not fetched from the PACS",
    "unreadable": "unreadable",
    "not_finite": "invalid numbers",
    "value": "impossible values",
    "geometry": "impossible geometry",
    "empty": "empty image",
    "constant": "empty image",
    "spacing": "unusual voxel size",
    "extent": "unusual field of view",
    "no_overlap": "fields of view do not meet",
    "coverage": "region not covered",
    "truncated": "part of the body not covered",
    "grid": "another grid than usual",
    "outlines": "body outlines differ",
    "mirrored": "mirrored",
    "displaced": "displaced",
    "unrelated": "perhaps another patient's",
    "same_image": "duplicate image",
    "duplicate": "duplicate case",
    "duplicate_image": "duplicate image",
    "label_unusable": "label cannot be used",
    "label_misplaced": "label does not lie on its images",
}
# Findings that a picture of two images together shows.
PAIR_FINDINGS = ("outlines", "displaced", "mirrored", "unrelated", "no_overlap", "coverage", "truncated")
# Findings of an image that cannot be shown.
UNDISPLAYABLE = ("unfetched", "unreadable", "not_finite", "value", "geometry", "empty", "constant")
_REASONS = 20  # reasons listed for skipped files, most frequent first; a large PACS has many


def pool_check(workspace: Workspace) -> dict[str, Any]:
    """Result of the last pool check; JSON.

    Returns:
        `state`: running, unchecked, failed or done, with `sentences`; `labels`: sentences on labels that were
        taken in, left out or damaged; `counts` by status; `kinds` of findings
        with the number of cases; `cases` with findings, worst first.
    """
    pool, verdicts = workspace.pool, workspace.verdicts.by_case
    state, sentences = _state(workspace)
    doubted = {id: verdict for id, verdict in verdicts.items() if verdict.findings and id in pool.by_id}
    cases = [_row(workspace, pool.by_id[id], verdict) for id, verdict in doubted.items()]
    kinds = Counter(kind for row in cases for kind in row["kinds"])
    return {
        "state": state,
        "sentences": sentences,
        "labels": workspace.label_book.notes(),
        "counts": {"cases": len(pool.cases), **PoolReport(verdicts).count()},
        "skipped": [
            {"reason": reason, "count": count}
            for reason, count in Counter(item.reason for item in pool.skipped).most_common(_REASONS)
        ],
        "kinds": [{"name": name, "cases": count} for name, count in kinds.most_common()],
        "cases": sorted(cases, key=_worst_first),
    }


def _state(workspace: Workspace) -> tuple[str, list[str]]:
    """State of the check, with sentences for the page."""
    if trouble := workspace.verdicts.trouble:
        return "failed", [trouble]
    if nothing := empty_sentence(workspace):
        return "done", [nothing]
    if workspace.verdicts.by_case:
        new = len({case.id for case in workspace.pool.cases} - workspace.verdicts.by_case.keys())
        return "done", [f"{counted(new)} came after the last check; served meanwhile."] if new else []
    progress = workspace.plan.progress(CHECK_JOB)
    if progress.get("state") == "running":
        return "running", [f"The check is running ({progress['message']}); every case is served meanwhile."]
    return "unchecked", [
        "Not checked yet: the check starts with the server, and this page shows its result when it ends. "
        "Every case is served meanwhile. If no result appears, the server's log says why."
    ]


def _row(workspace: Workspace, case: Case, verdict: Verdict) -> dict[str, Any]:
    verdicts = workspace.verdicts
    return {
        "case": case.id,
        "title": case.title,
        "status": verdict.status,
        "released": _released(workspace, case.id),
        "by_setting": case.id in workspace.settings.released,
        "kinds": sorted({FINDING_NAMES.get(finding.code, finding.code) for finding in verdict.findings}),
        "findings": [
            {"severity": finding.severity, "sentence": finding.sentence} for finding in verdict.findings
        ],
        "pictured": _pictured(case, verdict.findings),
        "release": _release(workspace, case.id) if verdicts.is_held(case.id) else "",
    }


def _worst_first(row: dict[str, Any]) -> tuple[Any, ...]:
    grave = sum(finding["severity"] == "quarantined" for finding in row["findings"])
    return row["status"] != "quarantined", bool(row["released"]), -grave, -len(row["findings"]), row["case"]


def _pictured(case: Case, findings: Sequence[Finding]) -> list[str]:
    """Two modalities that show the finding when drawn together; empty if no finding is about two images."""
    lost = {name for finding in findings if finding.code in UNDISPLAYABLE for name in finding.modalities}
    for code in PAIR_FINDINGS:
        for finding in findings:
            shown = [name for name in finding.modalities if name in case.modalities and name not in lost]
            if finding.code == code and len(shown) > 1:
                return shown[:2]
    return []


def _released(workspace: Workspace, id: str) -> str:
    """Who released a case that the check would hold back, as words after `released`; empty if nobody did."""
    if id in workspace.settings.released:
        return "by the setting released" if reasons(workspace.verdicts.by_case[id]) else ""
    review = workspace.verdicts.reviews.get(id)
    return f"by {review['by'] or 'somebody'} on {review['at'][:10]}" if review else ""


def _release(workspace: Workspace, id: str) -> str:
    """Setting that releases a case from quarantine."""
    return "--conf " + shlex.quote(f"released={','.join([*workspace.settings.released, id])}")
