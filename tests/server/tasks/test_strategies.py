import json
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lib.cases.quality.findings import Finding, Verdict
from lib.mdal.selection.strategies import STRATEGIES
from lib.pipeline.plan_document import reason
from lib.pipeline.planning import SCORING_JOB
from lib.pipeline.settings import AppSettings
from lib.pipeline.workspace import Workspace
from lib.plan.store import CaseScore
from lib.server.datastore import CaseDatastore
from lib.server.errors import ClientError
from lib.server.tasks.strategies import PlannedStrategy
from tests.conftest import SAMPLES
from tests.support.postgresql import postgresql, skip_without_postgresql

Samples = Callable[..., Path]


@pytest.fixture
def workspace(samples: Samples) -> Workspace:
    return Workspace(samples("STS_002", "STS_008", "STS_024", labels=False), AppSettings())


def ask(workspace: Workspace, strategy: str = "mdal", **request: object) -> dict[str, object]:
    answer = PlannedStrategy(workspace, strategy)(request, CaseDatastore(workspace))
    assert every_number_is_finite(json.loads(json.dumps(answer, allow_nan=False)))
    return answer


def every_number_is_finite(value: object) -> bool:
    if isinstance(value, dict):
        return all(map(every_number_is_finite, value.values()))
    if isinstance(value, list):
        return all(map(every_number_is_finite, value))
    return not isinstance(value, float) or math.isfinite(value)


def facts_of(answer: dict[str, object]) -> dict[str, Any]:
    facts = answer["mdal"]
    assert isinstance(facts, dict)
    return facts


def write_plan(workspace: Workspace, **about: object) -> None:
    details = {"most_different_pair": "CT/PET", "difference_by_pair": {"CT/PET": 1.5}}
    order = ["STS_024", "STS_002", "STS_008"]
    scores = {
        id: CaseScore(np.float32(1.5), 66.7, details, 2.25, place, np.array([float(place), 0.0]))
        for place, id in enumerate(order)
    }
    orders = {name: order for name in ("representative", "mdal", "diversemd", "uniform")}
    workspace.plan.write(content="x", seed=0, scores=scores, orders=orders, about=about)


def label(workspace: Workspace, *ids: str) -> None:
    for id in ids:
        datastore = CaseDatastore(workspace)
        contour = SAMPLES / id / "GTV.nii.gz"
        datastore.save_label(id, str(contour), "final", {})
        workspace.plan.release(id, annotator=None)


def test_the_answer_says_rank_difference_pair_cluster_and_lease(workspace: Workspace) -> None:
    write_plan(workspace)
    answer = ask(workspace, client_id="ann")
    assert answer["id"] == "STS_024"
    assert set(answer) == {"id", "mdal"}
    facts = facts_of(answer)
    until = datetime.fromisoformat(facts.pop("lease_until"))
    assert timedelta(minutes=119) < until - datetime.now(UTC) <= timedelta(minutes=120)
    assert facts == {
        "state": "planned",
        "plan": 1,
        "strategy": "mdal",
        "rank": 1,
        "of": 3,
        "difference": 1.5,
        "difference_nats": 2.25,
        "percentile": 66.7,
        "most_different_pair": "CT/PET",
        "difference_by_pair": {"CT/PET": 1.5},
        "cluster": 0,
        "warnings": [],
        "budget": {"cases": 3, "labelled_or_leased": 1, "of": 3},
        "reason": "Case 1 of 3: its modalities differ more than those of 67 % of the other cases, CT/PET "
        "most.",
    }
    assert type(facts["difference"]) is float


def test_the_nearest_labelled_case_is_named_once_there_is_one(workspace: Workspace) -> None:
    write_plan(workspace)
    label(workspace, "STS_008")
    facts = facts_of(ask(workspace))
    assert facts["nearest_labelled"] == {"id": "STS_008", "distance": 2.0}
    assert facts["budget"] == {"cases": 3, "labelled_or_leased": 2, "of": 3}


def test_a_uniform_order_does_not_claim_to_follow_the_difference(workspace: Workspace) -> None:
    write_plan(workspace)
    assert facts_of(ask(workspace, "uniform"))["reason"] == "Case 1 of 3 in random order."


def test_who_asks_again_is_told_which_case_was_set_aside(workspace: Workspace) -> None:
    write_plan(workspace)
    first = ask(workspace, client_id="ann")
    assert not any("set aside" in sentence for sentence in facts_of(first)["warnings"])
    (told,) = (s for s in facts_of(ask(workspace, client_id="ann"))["warnings"] if "set aside" in s)
    assert told.startswith(f"{first['id']} was set aside, as you asked for another case before you submitted")
    label(workspace, "STS_002")
    assert not any(
        "STS_002" in sentence for sentence in facts_of(ask(workspace, client_id="ann"))["warnings"]
    )


def test_failed_gates_are_said_only_where_the_order_follows_the_difference(workspace: Workspace) -> None:
    failed = ["The difference follows foreground volume (correlation -0.6): it may measure that instead."]
    write_plan(workspace, warnings=failed, gates=[{"name": "follows foreground volume", "passed": False}])
    assert facts_of(ask(workspace, "mdal"))["warnings"] == failed
    assert facts_of(ask(workspace, "representative", client_id="bob"))["warnings"] == []
    write_plan(workspace, warnings=["Cases are offered in random order: too few."])
    assert facts_of(ask(workspace, "representative", client_id="cy"))["warnings"] == [
        "Cases are offered in random order: too few."
    ]


def test_a_representative_order_says_what_there_is_to_see_and_why_a_case_is_kept_for_last() -> None:
    seen = CaseScore(0.5, 40.0, {"salient_percentile": 77.8, "most_different_pair": "CT/PET"})
    assert reason(seen, 3, 60, strategy="representative") == (
        "Case 3 of 60: it stands for many similar cases and has more conspicuous places than 78 % of the "
        "other cases."
    )
    anywhere = replace(seen, details={})
    for strategy in ("representative", "stratified"):
        assert reason(anywhere, 3, 60, strategy=strategy) == (
            "Case 3 of 60 in random order, as the scans here show different parts of the body."
        )
    damaged = CaseScore(4.0, 98.5, {"extreme": True, "salient_percentile": 50.0})
    for strategy in STRATEGIES:
        assert reason(damaged, 59, 60, strategy=strategy) == (
            "Case 59 of 60, kept for last: as a whole it differs far more than the pool; its scans may be "
            "damaged."
        )


def test_the_case_that_differs_most_and_the_one_that_differs_least_are_called_so() -> None:
    most, least = (reason(CaseScore(0.5, percentile), 1, 9, strategy="mdal") for percentile in (100.0, 0.0))
    assert most == "Case 1 of 9: its modalities differ most of all."
    assert least == "Case 1 of 9: its modalities differ least of all."


def test_what_may_mislead_is_said_with_the_case(workspace: Workspace) -> None:
    write_plan(workspace, warnings=["The models did not learn to match the modalities."])
    finding = Finding("spacing", "warned", ("CT",), "The CT's voxels are unusual.")
    workspace.verdicts.by_case["STS_024"] = Verdict("warned", (finding,))
    extreme = CaseScore(4.0, 98.5, {"extreme": True})
    assert facts_of(ask(workspace))["warnings"] == [
        "The models did not learn to match the modalities.",
        "The CT's voxels are unusual.",
    ]
    workspace.plan.write(
        content="y", seed=0, scores={"STS_002": extreme}, orders={"mdal": ["STS_002"]}, about={}
    )
    workspace.plan.report(SCORING_JOB, state="running", done=0.25, message="training")
    assert facts_of(ask(workspace, client_id="bob"))["warnings"] == [
        "The plan is older than the pool: 2 of its cases are not offered until it is scored again.",
        "A newer plan is being computed: 25 % done.",
        "This case differs far more than the pool does: look for damaged or misregistered images before "
        "labelling.",
    ]


@pytest.mark.parametrize(
    ("budget", "plateau", "given"), [("", 1, 3), ("2", 1, 2), ("34%", 1, 1), ("plateau", 2, 2)]
)
@pytest.mark.parametrize("strategy", ["representative", "mdal", "diversemd", "uniform"])
def test_nothing_is_offered_once_the_budget_is_labelled_or_in_hands(
    workspace: Workspace, strategy: str, budget: str, plateau: int, given: int
) -> None:
    write_plan(workspace, plateau={strategy: plateau})
    workspace = Workspace(workspace.folders.studies, AppSettings(budget=budget))
    answers = [ask(workspace, strategy, client_id=name) for name in "abcd"]
    assert [bool(answer) for answer in answers] == given * [True] + (4 - given) * [False]
    assert facts_of(answers[given - 1])["budget"] == {"cases": given, "labelled_or_leased": given, "of": 3}
    last = str(answers[given - 1]["id"])
    label(workspace, last)
    assert ask(workspace, strategy, client_id="e") == {}


def test_the_budget_holds_without_a_plan_too(workspace: Workspace) -> None:
    workspace = Workspace(workspace.folders.studies, AppSettings(budget="1"))
    assert ask(workspace, client_id="a")
    assert ask(workspace, client_id="b") == {}


def test_without_a_plan_the_answer_is_a_random_case_that_says_so(workspace: Workspace) -> None:
    workspace.plan.report(SCORING_JOB, state="running", done=0.4, message="training 2 of 5")
    facts = ask(workspace)["mdal"]
    assert isinstance(facts, dict)
    assert (facts["state"], facts["done"]) == ("scoring", 0.4)
    assert "There is no plan yet: this is a random unlabelled case." in facts["warnings"]


def test_nothing_left_is_an_empty_answer(workspace: Workspace) -> None:
    write_plan(workspace)
    assert len({ask(workspace, client_id=name)["id"] for name in "abc"}) == 3
    assert ask(workspace, client_id="d") == {}


def test_uniform_is_another_order_for_another_seed(samples: Samples) -> None:
    studies = samples(labels=False)
    firsts = {
        str(
            ask(
                Workspace(studies, AppSettings(seed=seed, work_dir=str(studies.parent / str(seed)))),
                "uniform",
            )["id"]
        )
        for seed in range(6)
    }
    assert len(firsts) > 1


def test_a_case_that_left_the_pool_is_not_offered(workspace: Workspace) -> None:
    write_plan(workspace)
    shutil.rmtree(workspace.folders.studies / "STS_024")
    assert ask(Workspace(workspace.folders.studies, AppSettings()))["id"] == "STS_002"


def test_a_database_that_is_gone_is_said_in_a_sentence(workspace: Workspace) -> None:
    skip_without_postgresql()
    with postgresql() as address:
        away = Workspace(workspace.folders.studies, AppSettings(database_url=address))
        write_plan(away)
        assert ask(away, client_id="ann")["id"] == "STS_024"
    with pytest.raises(ClientError, match="the plan's database must answer") as caught:
        ask(away, client_id="ann")
    assert caught.value.status_code == 503


@pytest.mark.parametrize("name", [["a"], {"a": 1}, "x" * 161, "a\nb", "\ud800", 7])
def test_a_client_without_a_proper_name_is_refused(workspace: Workspace, name: object) -> None:
    with pytest.raises(ClientError, match="client_id must be a name"):
        ask(workspace, client_id=name)
