import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lib.mdal.selection.strategies import STRATEGIES
from lib.pipeline.disk import SHARES
from lib.pipeline.planning import QUICK, SCORING_JOB, is_current, plan_pool
from lib.pipeline.settings import AppSettings
from lib.pipeline.workspace import Workspace
from tests.conftest import SAMPLES
from tests.support.trees import trained_models

Samples = Callable[..., Path]
SEVEN = ("STS_002", "STS_008", "STS_018", "STS_024", "STS_025", "STS_041", "STS_042")


def open_site(studies: Path, **settings: object) -> Workspace:
    return Workspace(studies, AppSettings(scoring="quick", **settings))


@pytest.fixture
def workspace(samples: Samples) -> Workspace:
    return open_site(samples(*SEVEN))


@pytest.fixture(scope="module")
def planned_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site with its first plan, which takes longest; tests change copies of it."""
    studies = tmp_path_factory.mktemp("planned") / "studies"
    for id in SEVEN:
        shutil.copytree(SAMPLES / id, studies / id)
    workspace = open_site(studies)
    plan_pool(workspace)
    workspace.plan.close()
    return studies


@pytest.fixture
def planned(planned_once: Path, tmp_path: Path) -> Workspace:
    """A site with its first plan."""
    return open_site(shutil.copytree(planned_once, tmp_path / "planned"))


def test_every_strategy_orders_the_whole_pool_and_every_case_has_a_score(planned: Workspace) -> None:
    workspace = planned
    for strategy in STRATEGIES:
        assert sorted(workspace.plan.order(strategy)) == list(SEVEN)
    current = workspace.plan.current()
    assert current is not None
    gates = {gate["name"]: gate for gate in current.about["gates"]}
    assert {"retrieval", "seed_agreement", "rises_when_exchanged"} <= gates.keys()
    failed = {gate["sentence"] for gate in gates.values() if gate["passed"] is False and gate["of_the_order"]}
    assert set(current.about["warnings"]) == {*failed, QUICK}
    assert gates["place_tells"]["passed"] is False
    assert current.about["plateau"].keys() == STRATEGIES.keys()
    scores = workspace.plan.scores()
    assert scores.keys() == set(SEVEN)
    for score in scores.values():
        assert score.difference_nats is not None
        assert score.cluster is not None
        assert "salient_percentile" not in score.details  # of parts of the body anywhere
        assert score.details["difference_by_pair"].keys() == {"MR_T1/CT", "MR_T1/PET", "CT/PET"}
        measured = score.details["measured"]
        assert len(measured.pop("voxel_mm")) == 3
        followed = {name for name in gates if name.startswith("follows ") and "protocol" not in name}
        assert {f"follows {name}" for name in measured} == followed
    assert len(workspace.plan.pair_scores("STS_002")) == 3 * 2
    assert workspace.plan.progress(SCORING_JOB)["state"] == "done"


def test_the_same_pool_settings_and_seed_give_the_same_plan(planned: Workspace, tmp_path: Path) -> None:
    again = open_site(planned.folders.studies, work_dir=str(tmp_path / "other"))
    plan_pool(again)
    assert again.plan.order("mdal") == planned.plan.order("mdal")
    assert again.plan.order("diversemd") == planned.plan.order("diversemd")


def test_nothing_changed_means_nothing_to_do(planned: Workspace) -> None:
    first, told = plan_pool(planned), []
    again = open_site(planned.folders.studies)
    assert plan_pool(again, on_progress=lambda done, message: told.append(message)) == first == 1
    assert told == ["checking the pool"]
    assert again.plan.progress(SCORING_JOB)["message"] == "nothing changed"


def test_a_changed_image_means_a_new_plan(planned: Workspace) -> None:
    image = planned.folders.studies / "STS_002" / "CT.nii.gz"
    image.write_bytes((planned.folders.studies / "STS_041" / "CT.nii.gz").read_bytes())
    later = open_site(planned.folders.studies)
    assert plan_pool(later) == 2
    assert "STS_002" in later.verdicts.quarantined  # another patient's CT


def test_a_changed_budget_orders_again_without_training(planned: Workspace) -> None:
    trained = trained_models(planned.folders.work)
    assert plan_pool(open_site(planned.folders.studies, budget="3")) == 2
    assert len(trained) == 2 * 2
    assert trained_models(planned.folders.work) == trained


def test_another_preparation_is_scored_anew(planned: Workspace) -> None:
    before = planned.plan.scores()
    later = open_site(planned.folders.studies, pet_ceiling=0.5)
    plan_pool(later)
    assert any(score.difference != before[id].difference for id, score in later.plan.scores().items())


def test_new_patients_are_scored_by_the_trained_models(planned: Workspace) -> None:
    studies = planned.folders.studies
    shutil.copytree(SAMPLES / "STS_047", studies / "STS_047")
    later = open_site(studies)
    trained = trained_models(later.folders.work)
    plan_pool(later)
    assert trained_models(later.folders.work) == trained
    assert "STS_047" in later.plan.order("mdal")
    shutil.copytree(SAMPLES / "STS_035", studies / "STS_035")
    plan_pool(open_site(studies))  # two of nine are new
    assert len(trained_models(later.folders.work) - trained) == 2 * 2


def test_a_plan_stays_current_when_files_are_touched_and_hold_what_they_held(samples: Samples) -> None:
    studies = samples("STS_008", "STS_025")
    plan_pool(open_site(studies))
    (studies / "STS_008" / "CT.nii.gz").touch()
    workspace = open_site(studies)
    plan = workspace.plan.current()
    assert plan
    assert not is_current(workspace, plan)
    assert plan_pool(workspace) == plan.id
    assert is_current(workspace, plan)


def test_a_quarantined_case_is_in_no_order_until_it_is_released(planned: Workspace) -> None:
    studies = planned.folders.studies
    shutil.copytree(SAMPLES / "STS_019", studies / "STS_019")
    workspace = open_site(studies)
    plan_pool(workspace)
    assert "STS_019" not in workspace.plan.order("mdal")
    released = open_site(studies, released=("STS_019",))
    plan_pool(released)
    assert "STS_019" in released.plan.order("mdal")


def test_a_pool_too_small_to_score_gets_a_plan_that_says_so(samples: Samples) -> None:
    workspace = open_site(samples("STS_002", "STS_008"))
    plan_pool(workspace)
    current = workspace.plan.current()
    assert current is not None
    assert "at least 6 patients" in current.about["warnings"][0]
    assert sorted(workspace.plan.order("mdal")) == ["STS_002", "STS_008"]


def test_a_file_that_vanished_costs_its_case_alone(planned: Workspace) -> None:
    workspace = planned
    (workspace.folders.studies / "STS_002" / "CT.nii.gz").unlink()
    plan_pool(workspace)
    assert sorted(workspace.plan.order("mdal")) == list(SEVEN[1:])
    assert "CT.nii.gz" in workspace.verdicts.by_case["STS_002"].findings[0].sentence


def test_a_scoring_that_fails_says_why_and_leaves_the_old_plan(planned: Workspace) -> None:
    before, later = planned.plan.order("mdal"), open_site(planned.folders.studies, seed=1)
    (later.folders.work / "views").rename(later.folders.work / "gone")
    (later.folders.work / "views").write_text("a file where the views should be")
    with pytest.raises(OSError, match="views"):
        plan_pool(later)
    assert later.plan.progress(SCORING_JOB)["state"] == "failed"
    assert "views" in later.plan.progress(SCORING_JOB)["message"]
    assert later.plan.order("mdal") == before


def test_the_result_of_a_check_is_recalled_until_a_file_changes(workspace: Workspace) -> None:
    assert not workspace.recall_check()
    workspace.check()
    later = open_site(workspace.folders.studies)
    assert later.recall_check()
    assert later.verdicts.by_case == workspace.verdicts.by_case
    image = workspace.folders.studies / "STS_002" / "CT.nii.gz"
    image.write_bytes(image.read_bytes()[:-100])
    assert not open_site(workspace.folders.studies).recall_check()


def test_a_prepared_case_is_read_once_and_again_when_its_file_changed(workspace: Workspace) -> None:
    case = workspace.pool.by_id["STS_002"]
    first = workspace.cache.get(case)
    assert first.array.shape == (3, *first.foreground.shape)
    assert np.isfinite(first.array).all()
    size = workspace.cache.size()
    workspace.cache.get(case)
    assert workspace.cache.size() == size
    image = workspace.folders.studies / "STS_002" / "CT.nii.gz"
    image.write_bytes((workspace.folders.studies / "STS_041" / "CT.nii.gz").read_bytes())
    assert not np.array_equal(workspace.cache.get(case).array[1], first.array[1])


def test_the_cache_keeps_within_its_bound_and_drops_the_longest_unused(samples: Samples) -> None:
    studies = samples("STS_025", "STS_008", "STS_042")
    room = open_site(studies, work_dir=str(studies.parent / "room"))
    sizes = {id: room.cache.get(room.pool.by_id[id]).array.nbytes for id in room.pool.by_id}
    bound = (sizes["STS_025"] + sizes["STS_042"]) * 1.3 / 1e9
    workspace = open_site(studies, disk_gb=bound / SHARES["prepared"])
    for id in ("STS_025", "STS_008", "STS_042"):
        workspace.cache.get(workspace.pool.by_id[id])
        assert workspace.cache.size() <= bound * 1e9
    kept = {path.parent.name for path in workspace.cache.folder.glob("*/case.json")}
    assert workspace.cache.key(workspace.pool.by_id["STS_042"]) in kept
    assert (
        workspace.cache.key(workspace.pool.by_id["STS_008"]) not in kept
        or workspace.cache.key(workspace.pool.by_id["STS_025"]) not in kept
    )
