from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from lib.pipeline.checking import CHECK_JOB, check_workspace
from lib.pipeline.settings import read_settings
from lib.pipeline.workspace import Workspace
from lib.plan.leases import PoolState
from lib.plan.scores import CaseScore
from lib.views.documents.today import today_document
from tests.support.images import write_image

Samples = Callable[..., Path]
CASES = ("STS_008", "STS_018", "STS_025")


@pytest.fixture
def workspace(samples: Samples) -> Workspace:
    return Workspace(samples(*CASES, labels=False), read_settings({"budget": "2"}))


def plan(workspace: Workspace, order: tuple[str, ...] = ("STS_025", "STS_008", "STS_018")) -> None:
    score = CaseScore(1.0, 90.0, {"most_different_pair": "CT/PET"}, 0.5, 0)
    about = {
        "fingerprint": workspace.fingerprint(),
        "settings": workspace.scoring_settings,
        "warnings": ["The order is partly chance."],
    }
    workspace.plan.write(
        content="x", seed=0, scores=dict.fromkeys(order, score), orders={"representative": order}, about=about
    )


def take(workspace: Workspace, annotator: str) -> None:
    workspace.plan.lease_next(
        workspace.plan.order("representative"),
        annotator=annotator,
        read_pool=lambda: PoolState(set(CASES), set()),
        lease=timedelta(hours=1),
    )


def test_the_next_case_is_the_one_that_next_sample_would_give_and_nothing_is_leased_for_it(
    workspace: Workspace,
) -> None:
    plan(workspace)
    today = today_document(workspace, "ann")
    assert today["next"]["id"] == "STS_025"
    assert "Case 1 of 3" in today["next"]["reason"]
    assert today["next"]["ids"][0] == "STS_025"
    assert today["readers"] == []
    assert today["counts"] == {
        "cases": 3, "labelled": 0, "found": 0, "leased": 0, "set_aside": 0, "left": 3, "quarantined": 0,
        "budget": 2,
    }  # fmt: skip
    assert today["verdict"]["sentence"] == "The order is partly chance."  # a plan without checks


def test_a_case_in_a_readers_hands_is_his_and_nobody_elses(workspace: Workspace) -> None:
    plan(workspace)
    take(workspace, "ann")
    hers, his = today_document(workspace, "ann"), today_document(workspace, "bob")
    assert (hers["next"]["id"], his["next"]["id"]) == ("STS_025", "STS_008")
    assert hers["next"]["yours_until"]
    assert his["next"]["yours_until"] is None
    assert [(each["annotator"], each["case"]) for each in his["readers"]] == [("ann", "STS_025")]


def test_a_case_that_was_set_aside_is_counted_and_not_offered(workspace: Workspace) -> None:
    plan(workspace)
    take(workspace, "ann")
    take(workspace, "ann")
    today = today_document(workspace, "ann")
    assert today["counts"]["set_aside"] == 1
    assert today["next"]["id"] == "STS_008"


def test_a_spent_budget_offers_nothing_though_cases_are_left(workspace: Workspace) -> None:
    plan(workspace)
    take(workspace, "ann")
    take(workspace, "bob")
    today = today_document(workspace, "cy")
    assert today["next"] is None
    assert today["counts"]["left"] == 1
    assert today_document(workspace, "ann")["next"]["id"] == "STS_025"


def test_without_a_plan_a_random_case_says_so(workspace: Workspace) -> None:
    today = today_document(workspace, "ann")
    assert today["next"]["reason"].endswith("in random order.")
    assert today["verdict"]["level"] == "none"
    assert today["verdict"]["sentence"].startswith("There is no plan yet")


def test_a_plan_of_other_settings_has_expired(workspace: Workspace) -> None:
    plan(workspace)
    other = Workspace(workspace.folders.studies, read_settings({"budget": "2", "seed": "7"}))
    assert "This plan has expired: seed was 0, now 7" in today_document(other, "ann")["verdict"]["sentence"]


def test_a_pool_that_is_held_back_as_a_whole_says_what_to_do(tmp_path: Path) -> None:
    for name in ("CT.nii.gz", "PET.nii.gz"):
        write_image(tmp_path / "studies" / "p1" / name)  # one image for both
    workspace = Workspace(tmp_path / "studies", read_settings({}))
    workspace.check()
    today = today_document(workspace, "ann")
    assert "holds back all 1 cases" in today["empty"]
    assert today["next"] is None


def test_while_the_check_runs_it_is_said_how_far_it_is(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def job() -> dict[str, Any]:
        (found,) = today_document(workspace, "ann")["jobs"]
        assert found["name"] == "Pool check"
        return found

    assert (job()["state"], job()["done"]) == ("running", None)
    monkeypatch.setattr("lib.plan.jobs.RECORD_EVERY_S", 0.0)
    told = []
    check_workspace(workspace, lambda done, message: told.append((done, message, job()["message"])))
    assert told[-1][:2] == (1.0, "checked 3 of 3 cases")
    assert all(message == seen for _, message, seen in told)
    assert today_document(workspace, "ann")["jobs"] == []


def test_a_check_that_fails_says_why_and_is_not_called_running(samples: Samples) -> None:
    class FullDisk(Workspace):
        def check(self, *_: object) -> None:
            raise OSError("no space is left")

    workspace = FullDisk(samples(*CASES, labels=False), read_settings({"budget": "2"}))
    with pytest.raises(OSError, match="no space"):
        check_workspace(workspace)
    assert workspace.plan.progress(CHECK_JOB)["state"] == "failed"
    (job,) = today_document(workspace, "ann")["jobs"]
    assert (job["state"], job["message"]) == ("failed", "no space is left")
