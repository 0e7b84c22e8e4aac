import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from lib.datastores.local import CaseDatastore
from lib.plan.store import CaseScore
from lib.planning import JOB
from lib.refusal import Refusal
from lib.settings import AppSettings
from lib.site import Site
from lib.tasks.strategies import PlannedStrategy

Samples = Callable[..., Path]


@pytest.fixture
def site(samples: Samples) -> Site:
    return Site(samples("STS_002", "STS_008", "STS_024", labels=False), AppSettings())


def ask(site: Site, strategy: str = "mdal", **request: object) -> dict[str, object]:
    return PlannedStrategy(site, strategy)(request, CaseDatastore(site))


def write_plan(site: Site) -> None:
    details = {"most_different_pair": "CT/PET", "difference_by_pair": {"CT/PET": 1.5}}
    scores = {id: CaseScore(1.5, 66.7, details) for id in site.pool.by_id}
    order = ["STS_024", "STS_002", "STS_008"]
    site.plan.write(content="x", seed=0, scores=scores, orders={"mdal": order, "diversemd": order}, about={})


def test_the_answer_says_rank_difference_pair_and_lease(site: Site) -> None:
    write_plan(site)
    answer = ask(site, client_id="ann")
    assert answer["id"] == "STS_024"
    facts = answer["mdal"]
    assert isinstance(facts, dict)
    assert (facts["state"], facts["rank"], facts["of"], facts["percentile"]) == ("planned", 1, 3, 66.7)
    assert facts["reason"] == (
        "Case 1 of 3: its modalities differ more than those of 67 % of the other cases, CT/PET most."
    )
    assert facts["lease_until"]


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


@pytest.mark.parametrize("name", [["a"], {"a": 1}, "x" * 161, "a\nb", "\ud800", 7])
def test_a_client_without_a_proper_name_is_refused(site: Site, name: object) -> None:
    with pytest.raises(Refusal, match="client_id must be a name"):
        ask(site, client_id=name)
