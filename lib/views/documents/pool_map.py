"""The pool on a map: position and modality difference of each case, and its current state."""

from __future__ import annotations

from collections.abc import Set
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lib.mdal.representation.projection import projected
from lib.mdal.selection.strategies import STRATEGIES
from lib.pipeline.plan_document import PlanDocument, PlannedCase, is_random
from lib.pipeline.planning import SCORING_JOB
from lib.pipeline.workspace import Workspace
from lib.views.documents.expiry import SCORE_AGAIN, expiry, what_to_do

NOTE = (
    "The map is a 2-D projection, so distances are approximate: cases that lie far apart differ, "
    "but cases that lie close together need not be alike."
)
_DECIMALS = 4


def pool_map(workspace: Workspace) -> dict[str, Any]:
    """The plan as columns, best case first; the document changes only with the plan.

    Returns:
        `plan`, the version or None; `sentence`, a message to read first, or "". With a plan also `id`, `x`,
        `y`, `difference`, `percentile`, `cluster` and `by_pair`, each with one entry per case (None where not
        known); `chosen`, the number of cases within the budget; `random`, whether the order is a random one;
        `lacking`, the missing modalities by id; and `titles`, by id where they differ from it.
    """
    plan = workspace.plan.current()
    if plan is None or not workspace.plan.order(workspace.settings.strategy, plan=plan.id):
        return {"plan": None, "sentence": _why_none(workspace)}
    document = PlanDocument.read(workspace)
    points, explained = _points(document.cases)
    return {
        "plan": plan.id,
        "made": plan.created.isoformat(),
        "sentence": "" if document.scored else _why_unscored(document),
        "note": NOTE,
        "strategy": document.strategy,
        "order": STRATEGIES[document.strategy].title,
        "random": is_random(plan, document.strategy),
        "budget": str(document.budget),
        "chosen": len(document.chosen),
        "scored": document.scored,
        "modalities": list(workspace.preparation.modalities),
        "pairs": list(document.pairs),
        "explained": explained,
        "x": [point[0] for point in points],
        "y": [point[1] for point in points],
        **_columns(document),
        "lacking": _lacking(workspace, document.cases),
        "titles": {case.id: case.title for case in workspace.pool.cases if case.title != case.id},
    }


def pool_states(workspace: Workspace, labelled: Set[str]) -> dict[str, Any]:
    """State of the cases now: labels, leases, quarantine, and whether the plan still fits the pool.

    Args:
        workspace: Workspace of the pool.
        labelled: Ids of the labelled cases.
    """
    plan = workspace.plan.current()
    order = set(workspace.plan.order(workspace.settings.strategy, plan=plan.id)) if plan else set()
    expired = expiry(workspace, plan) if plan and order else ""
    return {
        "plan": plan.id if plan and order else None,
        "labelled": sorted(labelled & order),
        "leased": {
            id: {"who": who, "until": until.isoformat()}
            for id, (who, until) in sorted(workspace.plan.assignments("").held.items())
            if id not in labelled
        },
        "quarantined": sorted(workspace.verdicts.quarantined),
        "expired": [expired, what_to_do(workspace)] if expired else [],
    }


def _why_none(workspace: Workspace) -> str:
    progress = workspace.plan.progress(SCORING_JOB)
    match progress.get("state"):
        case "running":
            share = f"{100 * progress['done']:.0f} % done: {progress['message']}"
            return (
                f"No plan yet: the pool is being scored, {share}. The map appears by itself when it is ready."
            )
        case "failed":
            return (
                f"No plan: the scoring failed. {progress['message']} Correct this, then score the pool again."
            )
        case _:
            return f"No plan yet: the modality difference of the cases is not known. {SCORE_AGAIN}"


def _why_unscored(document: PlanDocument) -> str:
    reasons = " ".join(document.about.get("warnings", []))
    return f"The pool was not scored, so there is no map. {reasons}".strip()


def _points(cases: tuple[PlannedCase, ...]) -> tuple[list[list[float | None]], list[float]]:
    """X and y of each case, from -1 to 1, and the share of the variance that each axis shows."""
    known = [row for row, case in enumerate(cases) if case.score.features is not None]
    places: list[list[float | None]] = [[None, None] for _ in cases]
    if not known:
        return places, []
    features: NDArray[np.float32] = np.stack(
        [case.score.features for case in cases if case.score.features is not None]
    )
    points, share = projected(features)
    points = np.round(points / max(float(np.abs(points).max()), 1e-12), _DECIMALS)
    for row, point in zip(known, points.tolist(), strict=True):
        places[row] = point
    return places, np.round(share, _DECIMALS).tolist()


def _columns(document: PlanDocument) -> dict[str, Any]:
    pairs = [case.pairs() for case in document.cases]
    return {
        "id": [case.id for case in document.cases],
        "difference": [_rounded(case.score.difference) for case in document.cases],
        "percentile": [_rounded(case.score.percentile) for case in document.cases],
        "cluster": [case.score.cluster for case in document.cases],
        "by_pair": {
            name: [of_case.get(name, {}).get("difference") for of_case in pairs] for name in document.pairs
        },
    }


def _lacking(workspace: Workspace, cases: tuple[PlannedCase, ...]) -> dict[str, list[str]]:
    lacking = {}
    for case in cases:
        here = workspace.pool.by_id.get(case.id)
        if here and (
            absent := [name for name in workspace.preparation.modalities if name not in here.modalities]
        ):
            lacking[case.id] = absent
    return lacking


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, _DECIMALS)
