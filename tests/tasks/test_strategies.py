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

from lib.cases.check import Finding, Verdict
from lib.datastores.local import CaseDatastore
from lib.plan.store import CaseScore
from lib.planning import JOB
from lib.refusal import Refusal
from lib.settings import AppSettings
from lib.site import Site
from lib.tasks.strategies import PlannedStrategy
from tests.conftest import SAMPLES
from tests.postgresql import postgresql, skip_without_postgresql

Samples = Callable[..., Path]


@pytest.fixture
def site(samples: Samples) -> Site:
    return Site(samples("STS_002", "STS_008", "STS_024", labels=False), AppSettings())


def ask(site: Site, strategy: str = "mdal", **request: object) -> dict[str, object]:
    answer = PlannedStrategy(site, strategy)(request, CaseDatastore(site))
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


def write_plan(site: Site, **about: object) -> None:
    details = {"most_different_pair": "CT/PET", "difference_by_pair": {"CT/PET": 1.5}}
    order = ["STS_024", "STS_002", "STS_008"]
    scores = {
        id: CaseScore(np.float32(1.5), 66.7, details, 2.25, place, np.array([float(place), 0.0]))
        for place, id in enumerate(order)
    }
    orders = {name: order for name in ("paced", "mdal", "diversemd", "uniform")}
    site.plan.write(content="x", seed=0, scores=scores, orders=orders, about=about)


def label(site: Site, *ids: str) -> None:
    for id in ids:
        datastore = CaseDatastore(site)
        contour = SAMPLES / id / "GTV.nii.gz"
        datastore.save_label(id, str(contour), "final", {})
        site.plan.release(id, annotator=None)


def test_the_answer_says_rank_difference_pair_cluster_and_lease(site: Site) -> None:
    write_plan(site)
    answer = ask(site, client_id="ann")
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


def test_the_nearest_labelled_case_is_named_once_there_is_one(site: Site) -> None:
    write_plan(site)
    label(site, "STS_008")
    facts = facts_of(ask(site))
    assert facts["nearest_labelled"] == {"id": "STS_008", "distance": 2.0}
    assert facts["budget"] == {"cases": 3, "labelled_or_leased": 2, "of": 3}


def test_a_uniform_order_does_not_claim_to_follow_the_difference(site: Site) -> None:
    write_plan(site)
    assert facts_of(ask(site, "uniform"))["reason"].startswith("Case 1 of 3 in a uniform order")


def test_failed_gates_are_said_only_where_the_order_follows_the_difference(site: Site) -> None:
    failed = ["The difference follows foreground volume (correlation -0.6): it may measure that instead."]
    write_plan(site, warnings=failed, gates=[{"name": "follows foreground volume", "passed": False}])
    assert facts_of(ask(site, "mdal"))["warnings"] == failed
    assert facts_of(ask(site, "paced"))["warnings"] == []
    write_plan(site, warnings=["Cases are offered in uniform order: too few."])
    assert facts_of(ask(site, "paced"))["warnings"] == ["Cases are offered in uniform order: too few."]


def test_a_paced_order_says_what_there_is_to_see_and_why_a_case_is_kept_for_last() -> None:
    seen = CaseScore(0.5, 40.0, {"striking_percentile": 77.8, "most_different_pair": "CT/PET"})
    assert seen.reason(3, 60, strategy="paced") == (
        "Case 3 of 60: it stands for cases like it, more in it is conspicuous than in 78 % of the others, "
        "and its modalities differ more than those of 40 % of the other cases, CT/PET most."
    )
    anywhere = replace(seen, details={})
    assert anywhere.reason(3, 60, strategy="paced") == (
        "Case 3 of 60, drawn at random as cases here show different parts of the body: its modalities differ "
        "more than those of 40 % of the other cases."
    )
    damaged = CaseScore(4.0, 98.5, {"extreme": True, "striking_percentile": 50.0})
    assert damaged.reason(59, 60, strategy="paced") == (
        "Case 59 of 60, kept for last: its modalities differ more than those of 98 % of the other cases, so "
        "its scans may be damaged."
    )


def test_the_case_that_differs_most_and_the_one_that_differs_least_are_called_so() -> None:
    most, least = (CaseScore(0.5, percentile).reason(1, 9, strategy="mdal") for percentile in (100.0, 0.0))
    assert most == "Case 1 of 9: its modalities differ most of all."
    assert least == "Case 1 of 9: its modalities differ least of all."


def test_what_may_mislead_is_said_with_the_case(site: Site) -> None:
    write_plan(site, warnings=["The models did not learn to match the modalities."])
    finding = Finding("spacing", "warned", ("CT",), "The CT's voxels are unusual.")
    site.verdicts["STS_024"] = Verdict("warned", (finding,))
    extreme = CaseScore(4.0, 98.5, {"extreme": True})
    assert facts_of(ask(site))["warnings"] == [
        "The models did not learn to match the modalities.",
        "The CT's voxels are unusual.",
    ]
    site.plan.write(content="y", seed=0, scores={"STS_002": extreme}, orders={"mdal": ["STS_002"]}, about={})
    site.plan.report(JOB, state="running", done=0.25, message="training")
    assert facts_of(ask(site))["warnings"] == [
        "The plan is older than the pool: 2 of its cases are not offered until it is scored again.",
        "A newer plan is being computed: 25 % done.",
        "This case differs far more than the pool does: look for damaged or misregistered images before "
        "labelling.",
    ]


@pytest.mark.parametrize(
    ("budget", "plateau", "given"), [("", 1, 3), ("2", 1, 2), ("34%", 1, 1), ("plateau", 2, 2)]
)
@pytest.mark.parametrize("strategy", ["paced", "mdal", "diversemd", "uniform"])
def test_nothing_is_offered_once_the_budget_is_labelled_or_in_hands(
    site: Site, strategy: str, budget: str, plateau: int, given: int
) -> None:
    write_plan(site, plateau={strategy: plateau})
    site = Site(site.studies, AppSettings(budget=budget))
    answers = [ask(site, strategy, client_id=name) for name in "abcd"]
    assert [bool(answer) for answer in answers] == given * [True] + (4 - given) * [False]
    assert facts_of(answers[given - 1])["budget"] == {"cases": given, "labelled_or_leased": given, "of": 3}
    last = str(answers[given - 1]["id"])
    label(site, last)
    assert ask(site, strategy, client_id="e") == {}


def test_the_budget_holds_without_a_plan_too(site: Site) -> None:
    site = Site(site.studies, AppSettings(budget="1"))
    assert ask(site, client_id="a")
    assert ask(site, client_id="b") == {}


def test_without_a_plan_the_answer_is_a_random_case_that_says_so(site: Site) -> None:
    site.plan.report(JOB, state="running", done=0.4, message="training 2 of 5")
    facts = ask(site)["mdal"]
    assert isinstance(facts, dict)
    assert (facts["state"], facts["done"]) == ("scoring", 0.4)
    assert "There is no plan yet: this is a random unlabelled case." in facts["warnings"]


def test_without_a_plan_a_site_can_want_an_error(site: Site) -> None:
    strict = Site(site.studies, AppSettings(no_plan="error"))
    with pytest.raises(Refusal, match="the plan is not ready") as caught:
        ask(strict)
    assert caught.value.status_code == 503
    assert ask(strict, "uniform")["id"]


def test_nothing_left_is_an_empty_answer(site: Site) -> None:
    write_plan(site)
    assert len({ask(site, client_id=name)["id"] for name in "abc"}) == 3
    assert ask(site, client_id="d") == {}


def test_uniform_is_another_order_for_another_seed(samples: Samples) -> None:
    studies = samples(labels=False)
    firsts = {
        str(
            ask(Site(studies, AppSettings(seed=seed, work_dir=str(studies.parent / str(seed)))), "uniform")[
                "id"
            ]
        )
        for seed in range(6)
    }
    assert len(firsts) > 1


def test_a_case_that_left_the_pool_is_not_offered(site: Site) -> None:
    write_plan(site)
    shutil.rmtree(site.studies / "STS_024")
    assert ask(Site(site.studies, AppSettings()))["id"] == "STS_002"


def test_a_database_that_is_gone_is_said_in_a_sentence(site: Site) -> None:
    skip_without_postgresql()
    with postgresql() as address:
        away = Site(site.studies, AppSettings(database_url=address))
        write_plan(away)
        assert ask(away, client_id="ann")["id"] == "STS_024"
    with pytest.raises(Refusal, match="the plan's database must answer") as caught:
        ask(away, client_id="ann")
    assert caught.value.status_code == 503


@pytest.mark.parametrize("name", [["a"], {"a": 1}, "x" * 161, "a\nb", "\ud800", 7])
def test_a_client_without_a_proper_name_is_refused(site: Site, name: object) -> None:
    with pytest.raises(Refusal, match="client_id must be a name"):
        ask(site, client_id=name)
