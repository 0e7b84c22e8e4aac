from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from lib.checking import CHECK, check_site
from lib.datastores.local import CaseDatastore
from lib.overview.today import today_document
from lib.plan.leases import Pool
from lib.plan.scores import CaseScore
from lib.settings import read_settings
from lib.site import Site
from tests.images import write_image

Samples = Callable[..., Path]
CASES = ("STS_008", "STS_018", "STS_025")


@pytest.fixture
def site(samples: Samples) -> Site:
    return Site(samples(*CASES, labels=False), read_settings({"budget": "2"}))


def plan(site: Site, order: tuple[str, ...] = ("STS_025", "STS_008", "STS_018")) -> None:
    score = CaseScore(1.0, 90.0, {"most_different_pair": "CT/PET"}, 0.5, 0)
    about = {
        "fingerprint": site.fingerprint(),
        "settings": site.scoring_settings,
        "warnings": ["The order is partly chance."],
    }
    site.plan.write(
        content="x", seed=0, scores=dict.fromkeys(order, score), orders={"paced": order}, about=about
    )


def take(site: Site, annotator: str) -> None:
    site.plan.lease_next(
        site.plan.order("paced"),
        annotator=annotator,
        look=lambda: Pool(set(CASES), set()),
        lease=timedelta(hours=1),
    )


def test_the_next_case_is_the_one_that_next_sample_would_give_and_nothing_is_leased_for_it(
    site: Site,
) -> None:
    plan(site)
    today = today_document(site, CaseDatastore(site), "ann")
    assert today["next"]["id"] == "STS_025"
    assert "Case 1 of 3" in today["next"]["reason"]
    assert today["next"]["ids"][0] == "STS_025"
    assert today["readers"] == []
    assert today["counts"] == {
        "cases": 3, "labelled": 0, "leased": 0, "set_aside": 0, "left": 3, "quarantined": 0, "budget": 2
    }  # fmt: skip
    assert "The order is partly chance." in today["warnings"]


def test_a_case_in_a_readers_hands_is_his_and_nobody_elses(site: Site) -> None:
    plan(site)
    take(site, "ann")
    store = CaseDatastore(site)
    hers, his = today_document(site, store, "ann"), today_document(site, store, "bob")
    assert (hers["next"]["id"], his["next"]["id"]) == ("STS_025", "STS_008")
    assert hers["next"]["yours_until"]
    assert his["next"]["yours_until"] is None
    assert [(each["annotator"], each["case"]) for each in his["readers"]] == [("ann", "STS_025")]


def test_a_case_that_was_set_aside_is_counted_and_not_offered(site: Site) -> None:
    plan(site)
    take(site, "ann")
    take(site, "ann")
    today = today_document(site, CaseDatastore(site), "ann")
    assert today["counts"]["set_aside"] == 1
    assert today["next"]["id"] == "STS_008"


def test_a_spent_budget_offers_nothing_though_cases_are_left(site: Site) -> None:
    plan(site)
    take(site, "ann")
    take(site, "bob")
    today = today_document(site, CaseDatastore(site), "cy")
    assert today["next"] is None
    assert today["counts"]["left"] == 1
    assert today_document(site, CaseDatastore(site), "ann")["next"]["id"] == "STS_025"


def test_without_a_plan_a_random_case_says_so(site: Site) -> None:
    today = today_document(site, CaseDatastore(site), "ann")
    assert today["next"]["reason"].endswith("in a uniform order.")
    assert any("There is no plan" in sentence for sentence in today["warnings"])


def test_a_plan_of_other_settings_has_expired(site: Site) -> None:
    plan(site)
    other = Site(site.studies, read_settings({"budget": "2", "seed": "7"}))
    assert (
        "This plan has expired: seed was 0, now 7"
        in today_document(other, CaseDatastore(other), "ann")["warnings"][0]
    )


def test_a_pool_that_is_held_back_as_a_whole_says_what_to_do(tmp_path: Path) -> None:
    for name in ("CT.nii.gz", "PET.nii.gz"):
        write_image(tmp_path / "studies" / "p1" / name)  # one image for both
    site = Site(tmp_path / "studies", read_settings({}))
    site.check()
    today = today_document(site, CaseDatastore(site), "ann")
    assert "holds back all 1 cases" in today["empty"]
    assert today["next"] is None


def test_while_the_check_runs_it_is_said_how_far_it_is(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def job() -> dict[str, Any]:
        (found,) = today_document(site, CaseDatastore(site), "ann")["jobs"]
        assert found["name"] == "Pool check"
        return found

    assert (job()["state"], job()["done"]) == ("running", None)
    monkeypatch.setattr("lib.plan.jobs._KEEP_S", 0.0)
    told = []
    check_site(site, lambda done, message: told.append((done, message, job()["message"])))
    assert told[-1][:2] == (1.0, "checked 3 of 3 cases")
    assert all(message == seen for _, message, seen in told)
    assert today_document(site, CaseDatastore(site), "ann")["jobs"] == []


def test_a_check_that_fails_says_why_and_is_not_called_running(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError("no space is left")

    monkeypatch.setattr(Site, "check", full)
    with pytest.raises(OSError, match="no space"):
        check_site(site)
    assert site.plan.progress(CHECK)["state"] == "failed"
    (job,) = today_document(site, CaseDatastore(site), "ann")["jobs"]
    assert (job["state"], job["message"]) == ("failed", "no space is left")
