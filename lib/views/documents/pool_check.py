"""What the pool check says of each case, worst first, and which two images show it."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence
from typing import Any

from lib.cases.case import Case
from lib.cases.quality.check import PoolReport
from lib.cases.quality.findings import Finding, Verdict
from lib.pipeline.checking import CHECK
from lib.pipeline.workspace import Workspace
from lib.views.documents.today import empty_sentence

KINDS = {  # code of a finding -> what it is called
    "missing": "modality missing",
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
    "grid": "another grid than usual",
    "outlines": "body outlines differ",
    "mirrored": "mirrored",
    "displaced": "displaced",
    "unrelated": "perhaps another patient's",
    "same_image": "duplicate image",
    "duplicate": "duplicate case",
    "duplicate_image": "duplicate image",
}
SEEN = ("outlines", "displaced", "mirrored", "unrelated", "no_overlap", "coverage")  # on two images together
UNREADABLE = (
    "unfetched",
    "unreadable",
    "not_finite",
    "value",
    "geometry",
    "empty",
    "constant",
)  # nothing to be shown of it
_REASONS = 20  # for which something in the studies is no case; those of a large PACS are many


def pool_check(workspace: Workspace) -> dict[str, Any]:
    """Result of a site's last check; JSON.

    Returns:
        `state`: running, unchecked, failed or done, with `sentences`; `counts` by status; `kinds` with their
        cases; `cases` with doubts, worst first.
    """
    pool, verdicts = workspace.pool, workspace.verdicts.by_case
    state, sentences = _state(workspace)
    doubted = {id: verdict for id, verdict in verdicts.items() if verdict.findings and id in pool.by_id}
    cases = [_row(workspace, pool.by_id[id], verdict) for id, verdict in doubted.items()]
    kinds = Counter(kind for row in cases for kind in row["kinds"])
    return {
        "state": state,
        "sentences": sentences,
        "counts": {"cases": len(pool.cases), **PoolReport(verdicts).count()},
        "skipped": [
            {"reason": reason, "count": count}
            for reason, count in Counter(item.reason for item in pool.skipped).most_common(_REASONS)
        ],
        "kinds": [{"name": name, "cases": count} for name, count in kinds.most_common()],
        "cases": sorted(cases, key=_worst_first),
    }


def _state(workspace: Workspace) -> tuple[str, list[str]]:
    """Where the check is, and what that means."""
    if trouble := workspace.verdicts.trouble:
        return "failed", [trouble]
    if nothing := empty_sentence(workspace):
        return "done", [nothing]
    if workspace.verdicts.by_case:
        new = len({case.id for case in workspace.pool.cases} - workspace.verdicts.by_case.keys())
        return "done", [f"{new:,} cases came since the last check; they are served meanwhile."] if new else []
    progress = workspace.plan.progress(CHECK)
    if progress.get("state") == "running":
        return "running", [f"The check is running ({progress['message']}); every case is served meanwhile."]
    return "unchecked", [
        "Not checked yet: the check begins when the server starts, and its result is here once it has ended. "
        "Every case is served meanwhile. If nothing comes, the server's log says why."
    ]


def _row(workspace: Workspace, case: Case, verdict: Verdict) -> dict[str, Any]:
    quarantined = verdict.status == "quarantined"
    return {
        "case": case.id,
        "status": verdict.status,
        "released": quarantined and case.id not in workspace.verdicts.quarantined,
        "kinds": sorted({KINDS.get(finding.code, finding.code) for finding in verdict.findings}),
        "findings": [
            {"severity": finding.severity, "sentence": finding.sentence}
            for finding in sorted(verdict.findings, key=lambda finding: finding.severity)  # the graver first
        ],
        "pictured": _pictured(case, verdict.findings),
        "release": _release(workspace, case.id) if case.id in workspace.verdicts.quarantined else "",
    }


def _worst_first(row: dict[str, Any]) -> tuple[Any, ...]:
    grave = sum(finding["severity"] == "quarantined" for finding in row["findings"])
    return row["status"] != "quarantined", row["released"], -grave, -len(row["findings"]), row["case"]


def _pictured(case: Case, findings: Sequence[Finding]) -> list[str]:
    """The two modalities that do not lie on each other; none where that is not the doubt."""
    lost = {name for finding in findings if finding.code in UNREADABLE for name in finding.modalities}
    for code in SEEN:
        for finding in findings:
            shown = [name for name in finding.modalities if name in case.modalities and name not in lost]
            if finding.code == code and len(shown) > 1:
                return shown[:2]
    return []


def _release(workspace: Workspace, id: str) -> str:
    """The setting that serves a case although the check holds it back."""
    return "--conf " + shlex.quote(f"released={','.join([*workspace.settings.released, id])}")
