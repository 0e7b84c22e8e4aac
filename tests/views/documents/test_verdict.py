"""One verdict on the plan, and what to do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lib.pipeline.planning import SCORING_JOB
from lib.pipeline.settings import AppSettings
from lib.pipeline.workspace import Workspace
from lib.views.documents.verdict import Verdict, verdict_of
from tests.support.written_plan import write_plan

ALIGNED = {"name": "place_tells", "passed": True, "of_the_order": False, "sentence": "Places compare."}


def gate(name: str, passed: bool | None, sentence: str = "") -> dict[str, Any]:
    return {"name": name, "passed": passed, "of_the_order": True, "sentence": sentence}


@pytest.fixture
def judged(samples: Callable[..., Path]) -> Callable[..., Verdict]:
    studies = samples("STS_008", "STS_002", "STS_025")

    def judge(
        *gates: dict[str, Any], strategy: str = "mdal", scoring: str = "full", **changes: Any
    ) -> Verdict:
        settings = {"workers": 1, "strategy": strategy, "scoring": scoring, "budget": "2"}
        write_plan(Workspace(studies, AppSettings(**settings)), gates=gates)
        now = Workspace(studies, AppSettings(**{**settings, **changes}))
        return verdict_of(now, now.plan.current())

    return judge


def test_an_order_by_the_difference_is_as_good_as_its_checks(judged: Callable[..., Verdict]) -> None:
    told = judged(gate("retrieval", True), gate("seed_agreement", True))
    assert (told.level, told.action) == ("usable", "")
    assert told.sentence == "Usable: all 2 checks that the order depends on passed."
    told = judged(gate("retrieval", True), gate("seed_agreement", False), {**ALIGNED, "passed": False})
    assert told.level == "care"
    assert "1 of the 2 checks that the order depends on failed" in told.sentence
    assert judged(gate("retrieval", True), gate("follows PET", None)).level == "care"
    told = judged(gate("retrieval", False, "Too little was learnt."), gate("seed_agreement", False))
    assert (told.level, told.sentence) == ("unreliable", "Do not rely on it. Too little was learnt.")
    assert "--conf strategy=representative" in told.action


@pytest.mark.parametrize("strategy", ["representative", "kmeans", "stratified"])
def test_an_order_that_does_not_use_the_difference_does_not_depend_on_its_checks(
    judged: Callable[..., Verdict], strategy: str
) -> None:
    told = judged(gate("retrieval", False), ALIGNED, strategy=strategy)
    assert told.level == "usable"
    assert "random order" not in told.sentence


def test_a_random_order_is_called_random(judged: Callable[..., Verdict]) -> None:
    anywhere = judged(gate("retrieval", True), {**ALIGNED, "passed": False}, strategy="representative")
    assert anywhere.sentence == (
        "Usable: a random order with likely damaged scans last, because the scans show different parts "
        "of the body."
    )
    uniform = judged(gate("retrieval", True), ALIGNED, strategy="uniform")
    assert uniform.sentence == "Usable: a random order with likely damaged scans last."


def test_another_budget_matters_only_where_it_changes_the_order(judged: Callable[..., Verdict]) -> None:
    gates = (gate("retrieval", True), ALIGNED)
    assert judged(*gates, budget="3").level == "usable"
    told = judged(*gates, strategy="kmeans", budget="3")
    assert told.sentence == "Usable with care. This plan has expired: budget was 2, now 3."
    assert judged(*gates, budget="3", seed=4).sentence.endswith("expired: seed was 0, now 4.")


def test_while_scoring_runs_nobody_is_told_to_start_it(tmp_path: Path) -> None:
    (tmp_path / "studies").mkdir()
    workspace = Workspace(tmp_path / "studies", AppSettings())
    assert "restart the server" in verdict_of(workspace, None).action
    workspace.plan.report(SCORING_JOB, state="running", done=0.1, message="training 1 of 15")
    assert verdict_of(workspace, None).action == "The pool is being scored; a new plan follows by itself."
    assert verdict_of(workspace, None).level == "none"


def test_a_quick_scoring_is_not_to_be_relied_on(judged: Callable[..., Verdict]) -> None:
    told = judged(gate("retrieval", True), ALIGNED, strategy="representative", scoring="quick")
    assert told.level == "unreliable"
    assert "The pool was scored quickly" in told.sentence
