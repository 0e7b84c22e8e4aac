"""The map of real patients under a plan that is written as a scoring writes it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from lib.pipeline.planning import SCORING_JOB
from lib.pipeline.settings import AppSettings
from lib.pipeline.workspace import Workspace
from lib.plan.store import PoolState
from lib.views.documents.pool_map import pool_map, pool_states
from tests.support.written_plan import IDS, write_plan


@pytest.fixture
def workspace(samples: Callable[..., Path]) -> Workspace:
    studies = samples(*IDS)
    (studies / "STS_025" / "PET_SUVx100.nii.gz").unlink()
    return Workspace(studies, AppSettings(budget="2"))


def test_each_case_has_its_place_and_its_numbers_in_the_plans_order(workspace: Workspace) -> None:
    write_plan(workspace)
    document = json.loads(json.dumps(pool_map(workspace), allow_nan=False))
    assert document["id"] == list(IDS)
    assert document["chosen"] == 2
    assert document["difference"] == [1.2346, 0.2346, -0.7654]
    assert document["percentile"] == [90.0, 60.0, 30.0]
    assert document["cluster"] == [0, 1, 0]
    assert set(document["pairs"]) == {"MR_T1/CT", "MR_T1/PET", "CT/PET"} & set(document["pairs"])
    assert document["by_pair"]["MR_T1/CT"] == [1.0, 0.0, -1.0]
    assert document["by_pair"]["MR_T1/PET"] == [0.5, 0.5, None]
    assert document["lacking"] == {"STS_025": ["PET"]}
    points = np.stack([document["x"], document["y"]], axis=1)
    assert np.abs(points).max() == 1.0
    apart = np.linalg.norm(points[:, None] - points[None], axis=2)
    assert (apart[np.triu_indices(3, 1)] > 0.1).all()
    assert sum(document["explained"]) == pytest.approx(1.0, abs=1e-3)  # three points lie in a plane


def test_without_a_plan_it_says_what_to_do_or_what_is_being_done(workspace: Workspace) -> None:
    assert pool_map(workspace)["plan"] is None
    assert "Score the pool" in pool_map(workspace)["sentence"]
    workspace.plan.report(SCORING_JOB, state="running", done=0.4, message="training 2 of 5")
    assert "40 % done: training 2 of 5" in pool_map(workspace)["sentence"]
    workspace.plan.report(SCORING_JOB, state="failed", done=0.0, message="the disk is full.")
    assert "the disk is full." in pool_map(workspace)["sentence"]
    assert pool_states(workspace, {"STS_002"})["plan"] is None


def test_a_pool_too_small_to_be_scored_has_no_dots_and_says_why(workspace: Workspace) -> None:
    write_plan(workspace, scored=False)
    document = pool_map(workspace)
    assert not document["scored"]
    assert document["x"] == [None] * 3
    assert "At least 6 are needed." in document["sentence"]
    assert document["id"] == list(IDS)


def test_labels_and_leases_are_told_and_a_label_ends_a_lease(workspace: Workspace) -> None:
    write_plan(workspace)
    workspace.plan.lease_next(
        IDS, annotator="anna", read_pool=lambda: PoolState(set(IDS), set()), lease=timedelta(hours=1)
    )
    states = pool_states(workspace, {"STS_025"})
    assert states["labelled"] == ["STS_025"]
    assert states["leased"]["STS_008"]["who"] == "anna"
    assert states["expired"] == []
    assert pool_states(workspace, {"STS_008"})["leased"] == {}


def test_a_plan_that_does_not_fit_the_pool_any_more_says_so(workspace: Workspace) -> None:
    write_plan(workspace)
    shutil.copytree(workspace.folders.studies / "STS_002", workspace.folders.studies / "STS_099")
    shutil.rmtree(workspace.folders.studies / "STS_008")
    workspace.refresh()
    told = " ".join(pool_states(workspace, set())["expired"])
    assert "has expired: 1 case is not in it; 1 case is no longer served." in told
    changed = Workspace(workspace.folders.studies, AppSettings(budget="2", seed=7))
    assert "seed was 0, now 7" in " ".join(pool_states(changed, set())["expired"])
