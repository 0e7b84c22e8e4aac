"""From the pool to its ordered plan: check, score, select, write."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import lru_cache
from importlib.metadata import version
from typing import Any

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from lib.mdal.scoring.difference import extreme
from lib.mdal.scoring.pool_scores import PoolScores, percentiles
from lib.mdal.scoring.score_pool import PoolTooSmall
from lib.mdal.selection.candidates import Candidates
from lib.mdal.selection.coverage import coverage, plateau, prefixes
from lib.mdal.selection.strategies import STRATEGIES, cluster_of
from lib.pipeline.checking import check_workspace
from lib.pipeline.place_differences import PlaceDifferences, differences_folder
from lib.pipeline.scoring import WorkspaceScores, score_workspace
from lib.pipeline.workspace import Workspace
from lib.plan.budget import Budget
from lib.plan.jobs import recording_progress
from lib.plan.orm import PlanRow
from lib.plan.scores import CaseScore, PairScore
from lib.runtime.progress import OnProgress, stage_of

logger = logging.getLogger(__name__)

SCORING_JOB = "mdal"
_CONFIRMED = "mdal files"  # files touched since the plan was made, whose content is unchanged
QUICK = (
    "The pool was scored quickly, to try the program out; the order means nothing. Use --conf scoring=full."
)
_CHECKED = 0.1  # share of the work done after the check


def plan_pool(workspace: Workspace, *, processes: int = 1, on_progress: OnProgress | None = None) -> int:
    """Bring the workspace's plan up to date.

    Where content and settings are unchanged, the existing plan stays. A pool too small to be scored gets a
    plan in random order, with a warning that says so.

    Args:
        workspace: Workspace whose pool is planned.
        processes: Number of processes that share the work on a CPU.
        on_progress: Called with the share done and a message; both are also recorded for `/info/`.

    Returns:
        The plan's version.

    Raises:
        UserError: If the studies hold no case.
    """
    after_stop = "the next scoring resumes where this one stopped"
    recording = recording_progress(workspace.plan.report, SCORING_JOB, on_progress, after_stop=after_stop)
    with (
        FileLock(workspace.folders.work / "scoring.lock"),  # a second scoring waits, then finds nothing to do
        recording as report_progress,
    ):
        return _plan_pool(workspace, processes, report_progress)


def is_current(workspace: Workspace, plan: PlanRow) -> bool:
    """Whether the plan was made from the files and settings as they are now."""
    now = workspace.fingerprint(settings_that_matter(workspace, plan))
    confirmed = workspace.plan.progress(_CONFIRMED).get("message")
    return plan.about.get("fingerprint") == now or confirmed == f"plan {plan.id} {now}"


def settings_that_matter(workspace: Workspace, plan: PlanRow) -> dict[str, object]:
    """Current settings that the plan depends on; the plan's own budget if that does not change the order."""
    settings, then = dict(workspace.scoring_settings), plan.about.get("settings", {})
    if "budget" in then and not STRATEGIES[workspace.settings.strategy].by_budget:
        settings["budget"] = then["budget"]
    return settings


@lru_cache(maxsize=4)
def uniform_order(ids: tuple[str, ...], seed: int) -> tuple[str, ...]:
    """Case ids in a random order, drawn from the seed."""
    return tuple(ids[place] for place in np.random.default_rng(seed).permutation(len(ids)))


def _plan_pool(workspace: Workspace, processes: int, report_progress: OnProgress) -> int:
    report_progress(0.0, "checking the pool")
    if not workspace.recall_check():
        check_workspace(workspace, stage_of(report_progress, 0.0, _CHECKED))
    content, current = workspace.content(), workspace.plan.current()
    if current is not None and current.content == content:
        confirmed = f"plan {current.id} {workspace.fingerprint()}"
        workspace.plan.report(_CONFIRMED, state="done", done=1.0, message=confirmed)
        workspace.plan.report(SCORING_JOB, state="done", done=1.0, message="nothing changed")
        return current.id
    plan = _make_plan(workspace, content, processes, report_progress)
    workspace.plan.report(SCORING_JOB, state="done", done=1.0, message=f"plan {plan} is ready")
    return plan


def _make_plan(workspace: Workspace, content: str, processes: int, report_progress: OnProgress) -> int:
    workspace.hold_ids()
    settings = workspace.settings
    about: dict[str, Any] = {
        "software": {name: version(name) for name in ("monai", "torch", "scikit-learn", "numpy")},
        "settings": workspace.scoring_settings,
        "fingerprint": workspace.fingerprint(),
        "warnings": [],
    }
    common: dict[str, Any] = {
        "content": content, "seed": settings.seed, "about": about, "budget": Budget.parse(settings.budget)
    }  # fmt: skip
    try:
        scored = score_workspace(
            workspace,
            processes=processes,
            on_progress=stage_of(report_progress, _CHECKED, 1.0),
        )
    except PoolTooSmall as err:
        logger.warning("the pool could not be scored: %s", err)
        about["warnings"] = [f"Cases are offered in random order: {err}"]
        order = uniform_order(tuple(case.id for case in workspace.verdicts.served), settings.seed)
        return workspace.plan.write(
            scores={id: CaseScore() for id in order},
            orders=dict.fromkeys(STRATEGIES, order),
            **common,
        )
    candidates = candidates_of(scored)
    groups = common["budget"].cases(len(candidates))
    orders = {
        name: strategy.select(candidates, groups, np.random.default_rng(settings.seed))
        for name, strategy in STRATEGIES.items()
    }
    gates = scored.scores.gates
    about["gates"] = [asdict(gate) for gate in gates]
    about["warnings"] = [gate.sentence for gate in gates if gate.passed is False and gate.of_the_order]
    if settings.scoring == "quick":
        about["warnings"].append(QUICK)
    about |= _coverage(candidates, orders)
    clusters = cluster_of(candidates, groups, np.random.default_rng(settings.seed))
    suspects, salient = extreme(scored.scores.damage), percentiles(scored.scores.salient)
    _keep_places(workspace, content, candidates, scored)
    return workspace.plan.write(
        scores={
            id: _case_score(
                scored, row, int(clusters[row]), suspect=bool(suspects[row]), salient=float(salient[row])
            )
            for row, id in enumerate(candidates.ids)
        },
        pair_scores=_pair_scores(scored.scores, candidates.ids),
        orders=orders,
        **common,
    )


def candidates_of(scored: WorkspaceScores) -> Candidates:
    """The candidates that a selector chooses from, with their scores."""
    scores = scored.scores
    return Candidates(
        tuple(case.id for case in scored.cases),
        scores.features,
        scores.md,
        damage=scores.damage,
        lesion_proxy=scores.lesion_proxy,
        salient=scores.salient,
        saliency_features=scores.saliency_features,
        aligned=scores.aligned,
    )


def _coverage(candidates: Candidates, orders: Mapping[str, list[str]]) -> dict[str, Any]:
    """Coverage of the pool by the first cases of each order, and the plateau of each curve."""
    row = {id: number for number, id in enumerate(candidates.ids)}
    at = prefixes(len(candidates))
    curves = {
        name: coverage(candidates.features, np.array([row[id] for id in order]), at=at)
        for name, order in orders.items()
    }
    return {
        "coverage": {"at": at, **{name: curve.tolist() for name, curve in curves.items()}},
        "plateau": {name: plateau(curve, at, cases=len(candidates)) for name, curve in curves.items()},
    }


def _keep_places(workspace: Workspace, content: str, candidates: Candidates, scored: WorkspaceScores) -> None:
    rows = {id: row for row, id in enumerate(candidates.ids)}
    found = PlaceDifferences(rows, scored.scores.pairs, scored.scores.places, scored.view)
    found.save(differences_folder(workspace), of=content)


def _case_score(
    scored: WorkspaceScores, row: int, cluster: int, *, suspect: bool, salient: float
) -> CaseScore:
    scores = scored.scores
    differences = _by_pair(scores, scores.pair_md[row])
    details: dict[str, Any] = {
        "difference_by_pair": differences,
        "pmi_nats_by_pair": _by_pair(scores, scores.gaussian_nats[row].mean(axis=1)),
        "pmi_nats_of_top_tenth_by_pair": _by_pair(scores, scores.top_nats[row].mean(axis=1)),
        "critic_nats_by_pair": _by_pair(scores, scores.critic_nats[row].mean(axis=1)),
        "difference_of_whole_case": float(scores.damage[row]),
        "measured": scored.measured(row),
        "extreme": suspect,
    }
    if scores.aligned:
        details["salient_percentile"] = salient
    if differences:
        details["most_different_pair"] = max(differences, key=lambda pair: (differences[pair], pair))
    absent = [pair for pair in scores.pairs if pair not in differences]
    if absent:
        details["pairs_missing"] = absent
    return CaseScore(
        float(scores.md[row]),
        float(scores.md_percentile[row]),
        details,
        difference_nats=float(scores.md_nats[row]) if differences else None,
        cluster=cluster,
        features=scores.features[row],
    )


def _pair_scores(scores: PoolScores, ids: Sequence[str]) -> Iterator[PairScore]:
    for row, id in enumerate(ids):
        for column, pair in enumerate(scores.pairs):
            for seed in range(scores.gaussian_nats.shape[2]):
                values = (
                    float(part[row, column, seed])
                    for part in (scores.gaussian_nats, scores.top_nats, scores.critic_nats)
                )
                yield PairScore(
                    id, pair, seed, *(value if math.isfinite(value) else None for value in values)
                )


def _by_pair(scores: PoolScores, values: NDArray[np.float64]) -> dict[str, float]:
    found = zip(scores.pairs, values, strict=True)
    return {pair: float(value) for pair, value in found if math.isfinite(value)}
