"""Today's view: the next case, progress of the plan, running jobs, cases held by readers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lib.labels.store import FINAL
from lib.pipeline.checking import CHECK_JOB
from lib.pipeline.plan_document import MDAL_METHOD, budgeted, reason
from lib.pipeline.planning import SCORING_JOB, uniform_order
from lib.pipeline.training_stats import TrainingStats
from lib.pipeline.workspace import Workspace
from lib.plan.leases import Assignments, PoolState, first_free
from lib.plan.orm import PlanRow
from lib.views.documents.verdict import verdict_of
from lib.views.documents.viewer_links import viewer_links


def today_document(workspace: Workspace, annotator: str) -> dict[str, Any]:
    """JSON for the page: warnings, the next case for an annotator, counts, jobs and readers.

    No case is leased: the next case is the one that Next Sample would offer now.
    """
    plan, assignments = workspace.plan.current(), workspace.plan.assignments(annotator)
    served = {case.id for case in workspace.verdicts.served}
    pool = PoolState(served, workspace.labels.labelled() & served)
    budget = budgeted(workspace, plan, workspace.settings.strategy)
    held = {id for id in assignments.held if pool.is_open(id)}
    at_work = {id for id in assignments.at_work if pool.is_open(id)}
    spent = len(pool.labelled) + len(at_work - {assignments.case_of(annotator)})
    jobs = _jobs(workspace)
    return {
        "method": MDAL_METHOD,
        "annotator": annotator,
        "empty": empty_sentence(workspace),
        "verdict": verdict_of(workspace, plan).to_dict(),
        "warnings": [*_scoring_warnings(jobs), *_check_warnings(workspace)],
        "next": None if spent >= budget else _next(workspace, plan, assignments, pool, annotator),
        "counts": {
            "cases": len(served),
            "labelled": len(pool.labelled),
            "found": sum(workspace.labels.log.version(id, FINAL) is None for id in pool.labelled),
            "leased": len(held),
            "set_aside": len(assignments.aside & (served - pool.labelled)),
            "left": len(served) - len(pool.labelled) - len(held),
            "quarantined": len(workspace.verdicts.quarantined),
            "budget": budget,
        },
        "jobs": jobs,
        "readers": [
            {
                "annotator": who,
                "case": id,
                "title": workspace.pool.by_id[id].title if id in workspace.pool.by_id else id,
                "until": until.isoformat(timespec="seconds"),
                "passed_over": id not in assignments.at_work,
            }
            for id, (who, until) in sorted(assignments.held.items(), key=lambda entry: entry[1][1])
        ],
    }


def empty_sentence(workspace: Workspace) -> str | None:
    """Sentence on what to do if no case is served, otherwise None; a server starts only with a case."""
    if workspace.verdicts.served:
        return None
    if workspace.verdicts.unchecked:
        return f"There is nothing to label now. {workspace.verdicts.trouble}"
    return (
        f"There is nothing to label: the pool check holds back all {len(workspace.pool.cases)} cases found. "
        "The view Check says why. Correct the files, or release there the cases that someone has looked at "
        "and found good; --conf released does the same."
    )


def _next(
    workspace: Workspace, plan: PlanRow | None, assignments: Assignments, pool: PoolState, annotator: str
) -> dict[str, Any] | None:
    """The case that the annotator holds, otherwise the next free case."""
    strategy = workspace.settings.strategy
    planned = workspace.plan.order(strategy, plan=plan.id) if plan else ()
    order = planned or uniform_order(
        tuple(case.id for case in workspace.verdicts.served), workspace.settings.seed
    )
    own = assignments.case_of(annotator)
    if own in order and pool.is_open(own):
        rank, id = order.index(own) + 1, own
        until = assignments.held[own][1].isoformat(timespec="seconds")
    elif found := first_free(order, pool, assignments.held.keys(), assignments.aside):
        (rank, id), until = found, None
    else:
        return None
    score, case = workspace.plan.score(id), workspace.pool.by_id[id]
    return {
        "id": id,
        "title": case.title,
        "reason": reason(score, rank, len(order), strategy=strategy if planned else "uniform"),
        "warnings": [*workspace.verdicts.findings(id), *score.warnings()],
        "yours_until": until,
        "modalities": list(workspace.preparation.modalities),  # in the order of the picture
        **viewer_links(case),
    }


def _jobs(workspace: Workspace) -> list[dict[str, Any]]:
    """Jobs that run or have ended: state, share done, message, seconds left."""
    jobs = []
    check = workspace.plan.progress(CHECK_JOB)
    # Without verdicts, a recorded end belongs to an earlier state of the pool.
    if not workspace.verdicts.by_case and check.get("state") in (None, "done"):
        check = {"state": "running", "done": None, "message": "looking at the cases"}
    if check and check["state"] != "done":
        jobs.append({"name": "Pool check", **check})
    if scoring := workspace.plan.progress(SCORING_JOB):
        jobs.append({"name": "Scoring", **scoring})
    stats = TrainingStats(workspace.folders.work / "model").read()
    if stats.get("state"):
        jobs.append({"name": "Training", **_training(stats)})
    return jobs


def _training(stats: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "state": stats["state"],
        "done": stats.get("epoch", 0) / max(1, stats.get("total_epochs", 1)),
        "message": stats.get("message", ""),
        "seconds_left": stats.get("seconds_left"),
    }


def _scoring_warnings(jobs: list[dict[str, Any]]) -> list[str]:
    scoring = next((job for job in jobs if job["name"] == "Scoring"), {})
    if scoring.get("state") not in ("failed", "interrupted"):
        return []
    return [f"Last scoring {scoring['state']}: {scoring['message']}"]


def _check_warnings(workspace: Workspace) -> list[str]:
    held = len(workspace.verdicts.quarantined)
    if not held:
        return []
    return [f"{held} {'case is' if held == 1 else 'cases are'} held back; the view Check says why."]
