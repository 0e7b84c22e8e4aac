"""Whether a plan is to be trusted."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lib.pipeline.settings import AppSettings
from lib.pipeline.workspace import Workspace
from lib.plan.scores import CaseScore, PairScore
from lib.views.documents import trust as overview
from lib.views.documents.trust import DRAWN_CASES, trust
from tests.support.written_plan import write_plan

QUICK = {"scoring": "quick", "workers": 1}


@pytest.fixture
def workspace(samples: Callable[..., Path]) -> Workspace:
    return Workspace(samples("STS_008", "STS_002", "STS_025"), AppSettings(**QUICK))


def gate(name: str, passed: bool | None, *, of_the_order: bool = True, value: float = 0.5) -> dict[str, Any]:
    known = None if passed is None else value
    said = {"limit": "at most 0.5", "sentence": f"{name}.", "of_the_order": of_the_order}
    return {"name": name, "value": known, "passed": passed, **said}


def write(workspace: Workspace, gates: list[dict[str, Any]], cases: int = 5, **about: Any) -> None:
    """A plan of made-up cases, in which the difference is a case's number and PET's noise its square."""
    ids = [f"P{number:05d}" for number in range(cases)]
    measured = [
        {"signal to noise of PET": float(n * n), "voxel_mm": [1.0, 1.0, 2.0 + n % 2]} for n in range(cases)
    ]
    workspace.plan.write(
        content="c",
        seed=0,
        scores={id: CaseScore(float(n), 50.0, {"measured": measured[n]}) for n, id in enumerate(ids)},
        pair_scores=[
            PairScore(id, "CT/PET", seed, float(-n if seed else n))
            for n, id in enumerate(ids)
            for seed in (0, 1)
        ],
        orders={workspace.settings.strategy: ids},
        about={
            "gates": gates,
            "settings": json.loads(json.dumps(workspace.scoring_settings)),
            "fingerprint": workspace.fingerprint(),
            **about,
        },
    )


def test_without_a_plan_it_is_said_what_to_do(workspace: Workspace) -> None:
    told = trust(workspace)
    assert told["state"] == "none"
    assert told["verdict"]["level"] == "none"
    assert "Score the pool" in told["verdict"]["action"]


def test_a_pool_too_small_to_score_says_so(workspace: Workspace) -> None:
    write_plan(workspace, scored=False)
    told = trust(workspace)
    assert (told["state"], told["verdict"]["level"]) == ("unscored", "none")
    assert told["verdict"]["sentence"] == "At least 6 are needed."


def test_what_the_order_hangs_on_comes_first_and_of_that_what_failed(workspace: Workspace) -> None:
    write(
        workspace,
        [
            gate("nats_calibrated", False, of_the_order=False),
            gate("retrieval", True),
            gate("follows PET", None),
            gate("seed_agreement", False),
        ],
    )
    told = trust(workspace)
    lights = [(row["title"], row["light"]) for row in told["gates"]]
    assert lights == [
        ("seed agreement", "failed"),
        ("follows PET", "not known"),
        ("retrieval", "passed"),
        ("nats calibrated", "failed"),
    ]


def test_a_plan_made_with_other_settings_has_expired_and_names_them(workspace: Workspace) -> None:
    write(workspace, [gate("retrieval", True)])
    later = Workspace(workspace.folders.studies, AppSettings(**{**QUICK, "seed": 3}))
    told = trust(later)
    assert told["state"] == "expired"
    assert "seed was 0, now 3" in told["verdict"]["sentence"]
    assert "3 cases are not in it; 5 cases are no longer served" in told["verdict"]["sentence"]


def test_of_a_large_pool_a_sample_is_drawn_and_the_figures_are_of_all(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overview, "DRAWN_CASES", 10)
    assert DRAWN_CASES > 10
    write(workspace, [gate("follows signal to noise of PET", False, value=0.9)], cases=40)
    told = trust(workspace)
    (follows,) = told["follows"]
    assert (follows["of"], len(follows["cases"]), follows["correlation"]) == (40, 10, 0.9)
    numbers = np.array([int(id[1:]) for id in follows["cases"]])
    assert follows["values"] == (numbers**2).tolist()
    assert follows["differences"] == numbers.tolist()
    (seeds,) = told["seeds"]
    assert (seeds["of"], len(seeds["cases"])) == (40, 10)
    assert seeds["agreement"] == [{"seeds": [0, 1], "spearman": pytest.approx(-1.0), "of": 40}]


def test_protocols_are_told_apart_by_voxel_size(workspace: Workspace) -> None:
    write(workspace, [gate("retrieval", True)], cases=5)
    protocols = trust(workspace)["protocols"]
    assert (protocols["sizes"], protocols["cases"]) == (2, 5)
    (group,) = protocols["groups"]  # of the other size there are two cases only
    assert (group["voxel_mm"], group["cases"]) == ([1.0, 1.0, 2.0], 3)
    assert group["quartiles"] == [0.0, 1.0, 2.0, 3.0, 4.0]


def test_the_budget_and_the_stop_rule_are_told_in_cases(workspace: Workspace) -> None:
    curves = {"at": [1, 2, 4], "representative": [0.1, 0.5, 1.0]}
    write(workspace, [gate("retrieval", True)], coverage=curves, plateau={"representative": 2})
    coverage = trust(workspace)["coverage"]
    assert coverage["curves"][0]["plateau"] == 2
    assert coverage["budget"] == {"rule": "", "cases": 4}
    rule = Workspace(workspace.folders.studies, AppSettings(**{**QUICK, "budget": "plateau"}))
    assert trust(rule)["coverage"]["budget"] == {"rule": "plateau", "cases": 2}
