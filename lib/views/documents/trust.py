"""Checks of a plan: the gates, correlations of its order, coverage, agreement of seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import combinations
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from lib.mdal.selection.strategies import STRATEGIES
from lib.pipeline.planning import SCORING_JOB
from lib.pipeline.workspace import Workspace
from lib.plan.budget import Budget
from lib.plan.orm import PlanRow
from lib.plan.scores import CaseScore
from lib.views.documents.expiry import expiry
from lib.views.documents.verdict import verdict_of

DRAWN_CASES = 500  # most cases drawn as dots; the figures are of all cases
GROUPS = 12  # protocols shown; the rest are only counted
LEAST_IN_GROUP = 3  # cases; a protocol with fewer is not shown
PROPERTY_UNITS = {"foreground volume": "ml", "lesion proxy": "ml"}
_LIGHTS = {True: "passed", False: "failed", None: "not known"}


def trust(workspace: Workspace) -> dict[str, Any]:
    """Checks by which to judge the newest plan; JSON.

    Returns:
        `state`: none, unscored (the pool was too small), expired or current; `verdict`: its level, a sentence
        and what to do; if there is a plan, also the data of the charts and tables.
    """
    plan = workspace.plan.current()
    told = {
        "verdict": verdict_of(workspace, plan).to_dict(),
        "progress": workspace.plan.progress(SCORING_JOB),
    }
    if plan is None:
        return {"state": "none", **told}
    gates = _gates(plan.about.get("gates", []))
    known = {
        **told,
        "plan": {"version": plan.id, "created": plan.created.isoformat(), "budget": plan.budget or ""},
        "coverage": _coverage(workspace, plan),
    }
    if not gates:
        return {"state": "unscored", **known}
    return {
        "state": "expired" if expiry(workspace, plan) else "current",
        **known,
        "gates": gates,
        **_case_charts(workspace, plan),
    }


@lru_cache(maxsize=1)
def _case_charts(workspace: Workspace, plan: PlanRow) -> dict[str, Any]:
    """Data of the charts; cached, as a plan never changes and a large pool takes a second."""
    every = workspace.plan.scores(plan=plan.id)
    scores = {id: score for id, score in every.items() if score.difference is not None}
    return {
        "follows": _follows(scores, plan.about["gates"]),
        "protocols": _protocols(scores),
        "seeds": _seeds(workspace.plan.nats_by_seed(plan=plan.id)),
    }


def _gates(gates: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Gates of the order first, and failed gates first among them."""
    worst_first = [False, None, True]
    ordered = sorted(gates, key=lambda gate: (not gate["of_the_order"], worst_first.index(gate["passed"])))
    return [{**gate, "light": _LIGHTS[gate["passed"]], "title": _title(gate["name"])} for gate in ordered]


def _title(name: str) -> str:
    """A gate's name in words; the name of a modality in it stays unchanged."""
    if name.startswith("follows "):
        return name
    return name.replace("_nats", " (nats)").replace("_", " ")


def _coverage(workspace: Workspace, plan: PlanRow) -> dict[str, Any] | None:
    """Coverage curve of every strategy, with the stop rule and the budget in cases."""
    stored, plateaus = plan.about.get("coverage"), plan.about.get("plateau", {})
    if not stored:
        return None
    at, strategy = stored["at"], workspace.settings.strategy
    budget = Budget.parse(workspace.settings.budget)
    return {
        "at": at,
        "cases": at[-1],
        "curves": [
            {
                "strategy": name,
                "description": STRATEGIES[name].title if name in STRATEGIES else "",
                "values": _rounded(values),
                "plateau": plateaus.get(name),
            }
            for name, values in stored.items()
            if name != "at"
        ],
        "strategy": strategy,
        "budget": {
            "rule": str(budget),
            "cases": budget.cases(at[-1], plateau=plateaus.get(strategy)),
        },
    }


def _follows(scores: Mapping[str, CaseScore], gates: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Each measured property of the cases, with their modality difference."""
    correlations = {gate["name"]: gate["value"] for gate in gates}
    names = sorted({name for score in scores.values() for name in score.details.get("measured", {})})
    found = []
    for name in names:
        if name == "voxel_mm":
            continue
        measured = {
            id: score.details["measured"][name]
            for id, score in scores.items()
            if name in score.details.get("measured", {})
        }
        shown = _sample(list(measured))
        found.append(
            {
                "name": name,
                "unit": PROPERTY_UNITS.get(name, ""),
                "correlation": correlations.get(f"follows {name}"),
                "of": len(measured),
                "cases": shown,
                "values": [measured[id] for id in shown],
                "differences": _rounded([scores[id].difference for id in shown]),
            }
        )
    return found


def _protocols(scores: Mapping[str, CaseScore]) -> dict[str, Any]:
    """Quartiles of the difference for each voxel size, the most frequent size first."""
    groups: dict[tuple[float, ...], list[float]] = {}
    for score in scores.values():
        spacing = score.details.get("measured", {}).get("voxel_mm")
        if spacing and score.difference is not None:
            groups.setdefault(tuple(spacing), []).append(score.difference)
    large = {size: values for size, values in groups.items() if len(values) >= LEAST_IN_GROUP}
    shown = sorted(large.items(), key=lambda group: (-len(group[1]), group[0]))[:GROUPS]
    return {
        "groups": [
            {
                "voxel_mm": list(size),
                "cases": len(values),
                "quartiles": _rounded(np.percentile(values, (0, 25, 50, 75, 100)).tolist()),
            }
            for size, values in shown
        ],
        "sizes": len(groups),
        "cases": sum(map(len, groups.values())),
    }


def _seeds(nats: Mapping[str, Mapping[int, Mapping[str, float]]]) -> list[dict[str, Any]]:
    """Agreement of trainings from different seeds, for each pair of modalities."""
    found = []
    for pair, by_seed in sorted(nats.items()):
        seeds = sorted(by_seed)
        agreement = []
        for first, second in combinations(seeds, 2):
            ids = sorted(by_seed[first].keys() & by_seed[second].keys())
            a, b = ([by_seed[seed][id] for id in ids] for seed in (first, second))
            varies = len(ids) > 2 and np.ptp(a) and np.ptp(b)
            spearman = float(spearmanr(a, b).statistic) if varies else None
            agreement.append({"seeds": [first, second], "spearman": spearman, "of": len(ids)})
        both = [id for id in by_seed[seeds[0]] if len(seeds) > 1 and id in by_seed[seeds[1]]]
        shown = _sample(both)
        values = [_rounded([by_seed[seed][id] for id in shown]) for seed in seeds[:2]]
        found.append({"pair": pair, "agreement": agreement, "cases": shown, "of": len(both), "nats": values})
    return found


def _sample(ids: Sequence[str]) -> list[str]:
    """At most `DRAWN_CASES` of the ids, the same each time."""
    ordered = sorted(ids)
    if len(ordered) <= DRAWN_CASES:
        return ordered
    rows = np.random.default_rng(0).choice(len(ordered), DRAWN_CASES, replace=False)
    return [ordered[row] for row in np.sort(rows)]


def _rounded(values: Sequence[float | None]) -> list[float]:
    return [round(value, 4) for value in values if value is not None]
