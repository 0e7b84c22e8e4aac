from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from lib.pipeline.settings import read_settings
from lib.pipeline.workspace import Workspace
from lib.plan.leases import PoolState
from lib.views.documents.case_list import WITH_IMAGES, case_list
from lib.views.documents.today import today_document
from tests.support.written_plan import IDS, write_plan


def test_the_list_says_of_every_case_in_whose_hands_it_is(samples: Callable[..., Path]) -> None:
    studies = samples(*IDS, labels=False)
    workspace = Workspace(studies, read_settings({}))
    assert [row["place"] for row in case_list(workspace)["cases"]] == [None] * 3
    assert case_list(workspace)["random"] is True
    write_plan(workspace)
    workspace.plan.lease_next(
        IDS, annotator="anna", read_pool=lambda: PoolState(set(IDS), set()), lease=timedelta(hours=1)
    )
    rows = {row["id"]: row for row in case_list(workspace)["cases"]}
    first = rows["STS_008"]
    assert (first["state"], first["reader"], first["place"]) == ("held by a reader", "anna", 1)
    assert first["title"] == "STS_008"
    assert rows["STS_025"]["state"] == "not labelled"
    assert rows["STS_025"]["difference"] < rows["STS_002"]["difference"]


def test_labels_that_lie_with_the_images_are_announced(samples: Callable[..., Path]) -> None:
    studies = samples(*IDS, labels=True)
    workspace = Workspace(studies, read_settings({}))
    rows = case_list(workspace)["cases"]
    assert {(row["state"], row["reader"]) for row in rows} == {("labelled", WITH_IMAGES)}
    counts = today_document(workspace, "anna")["counts"]
    assert (counts["labelled"], counts["found"]) == (3, 3)
    afresh = Workspace(studies, read_settings({"study_labels": "ignore"}))
    assert today_document(afresh, "anna")["counts"]["found"] == 0
