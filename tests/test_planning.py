from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import lib.mdal.score
from lib.mdal.selection import SELECTORS
from lib.planning import JOB, is_current, plan_pool
from lib.settings import AppSettings
from lib.site import Site

Samples = Callable[..., Path]
SEVEN = ("STS_002", "STS_008", "STS_018", "STS_024", "STS_025", "STS_041", "STS_042")


def open_site(studies: Path, **settings: object) -> Site:
    quick = {"folds": 2, "repeats": 1, "scoring_steps": 4, **settings}
    return Site(studies, AppSettings(**quick))


@pytest.fixture
def site(samples: Samples) -> Site:
    return open_site(samples(*SEVEN))


def test_every_strategy_orders_the_whole_pool_and_every_case_has_a_score(site: Site) -> None:
    plan_pool(site)
    for strategy in ("paced", "mdal", "diversemd", "uniform"):
        assert sorted(site.plan.order(strategy)) == list(SEVEN)
    current = site.plan.current()
    assert current is not None
    gates = {gate["name"]: gate for gate in current.about["gates"]}
    assert {"retrieval", "seed_agreement", "rises_when_exchanged"} <= gates.keys()
    failed = {gate["sentence"] for gate in gates.values() if gate["passed"] is False and gate["of_the_order"]}
    assert set(current.about["warnings"]) == failed
    assert gates["place_tells"]["passed"] is False
    assert current.about["plateau"].keys() == {"paced", "mdal", "diversemd", "uniform"}
    scores = site.plan.scores()
    assert scores.keys() == set(SEVEN)
    for score in scores.values():
        assert score.difference_nats is not None
        assert score.cluster is not None
        assert "striking_percentile" not in score.details  # of parts of the body anywhere
        assert score.details["difference_by_pair"].keys() == {"MR_T1/CT", "MR_T1/PET", "CT/PET"}
        measured = score.details["measured"]
        assert len(measured.pop("voxel_mm")) == 3
        followed = {name for name in gates if name.startswith("follows ") and "protocol" not in name}
        assert {f"follows {name}" for name in measured} == followed
    assert len(site.plan.pair_scores("STS_002")) == 3
    assert site.plan.progress(JOB)["state"] == "done"


def test_the_same_pool_settings_and_seed_give_the_same_plan(
    site: Site, samples: Samples, tmp_path: Path
) -> None:
    plan_pool(site)
    again = open_site(site.studies, work_dir=str(tmp_path / "other"))
    plan_pool(again)
    assert again.plan.order("mdal") == site.plan.order("mdal")
    assert again.plan.order("diversemd") == site.plan.order("diversemd")


def test_nothing_changed_means_nothing_to_do(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    first = plan_pool(site)
    monkeypatch.setattr("lib.planning._make", lambda *_: pytest.fail("scored again"))
    assert plan_pool(open_site(site.studies)) == first


def test_a_changed_image_means_a_new_plan(site: Site) -> None:
    first = plan_pool(site)
    image = site.studies / "STS_002" / "CT.nii.gz"
    image.write_bytes((site.studies / "STS_041" / "CT.nii.gz").read_bytes())
    later = open_site(site.studies)
    assert plan_pool(later) == first + 1
    assert "STS_002" in later.quarantined  # another patient's CT


def test_a_changed_budget_orders_again_without_training(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    first = plan_pool(site)
    monkeypatch.setattr("lib.mdal.score.train_fold", lambda *_, **__: pytest.fail("trained again"))
    assert plan_pool(open_site(site.studies, budget="3")) == first + 1


def test_another_preparation_is_scored_anew(site: Site) -> None:
    plan_pool(site)
    before = site.plan.scores()
    later = open_site(site.studies, pet_ceiling=0.5)
    plan_pool(later)
    assert any(score.difference != before[id].difference for id, score in later.plan.scores().items())


def test_a_strategy_that_a_site_lists_has_an_order(site: Site) -> None:
    every = tuple(SELECTORS)
    plan_pool(open_site(site.studies, strategies=every))
    for strategy in every:
        assert sorted(site.plan.order(strategy)) == list(SEVEN)


def test_new_patients_are_scored_by_the_trained_models(
    samples: Samples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    studies = samples(*SEVEN, "STS_035", "STS_047")
    for name in ("STS_047", "STS_035"):
        (studies / name).rename(tmp_path / name)
    plan_pool(open_site(studies, retrain_share=0.1))
    (tmp_path / "STS_047").rename(studies / "STS_047")
    with monkeypatch.context() as patch:
        patch.setattr("lib.mdal.score.train_fold", lambda *_, **__: pytest.fail("trained again"))
        later = open_site(studies, retrain_share=0.2)
        plan_pool(later)
    assert "STS_047" in later.plan.order("mdal")
    (tmp_path / "STS_035").rename(studies / "STS_035")
    trained = []
    train = lib.mdal.score.train_fold
    monkeypatch.setattr("lib.mdal.score.train_fold", lambda *a, **k: trained.append(1) or train(*a, **k))
    plan_pool(open_site(studies, retrain_share=0.1))  # two of nine are new
    assert len(trained) == 2


def test_a_plan_stays_current_when_files_are_touched_and_hold_what_they_held(samples: Samples) -> None:
    studies = samples("STS_008", "STS_025")
    plan_pool(open_site(studies))
    (studies / "STS_008" / "CT.nii.gz").touch()
    site = open_site(studies)
    plan = site.plan.current()
    assert plan
    assert not is_current(site, plan)
    assert plan_pool(site) == plan.id
    assert is_current(site, plan)


def test_a_quarantined_case_is_in_no_order_until_it_is_released(samples: Samples) -> None:
    studies = samples(*SEVEN, "STS_019")
    site = open_site(studies)
    plan_pool(site)
    assert "STS_019" not in site.plan.order("mdal")
    released = open_site(studies, released=("STS_019",))
    plan_pool(released)
    assert "STS_019" in released.plan.order("mdal")


def test_a_pool_too_small_to_score_gets_a_plan_that_says_so(samples: Samples) -> None:
    site = open_site(samples("STS_002", "STS_008"))
    plan_pool(site)
    current = site.plan.current()
    assert current is not None
    assert "at least 6 patients" in current.about["warnings"][0]
    assert sorted(site.plan.order("mdal")) == ["STS_002", "STS_008"]


def test_a_file_that_vanished_costs_its_case_alone(site: Site) -> None:
    (site.studies / "STS_002" / "CT.nii.gz").unlink()
    plan_pool(site)
    assert sorted(site.plan.order("mdal")) == list(SEVEN[1:])
    assert "CT.nii.gz" in site.verdicts["STS_002"].findings[0].sentence


def test_a_scoring_that_fails_says_why_and_leaves_the_old_plan(site: Site) -> None:
    plan_pool(site)
    before, later = site.plan.order("mdal"), open_site(site.studies, seed=1)
    (later.work / "views").rename(later.work / "gone")
    (later.work / "views").write_text("a file where the views should be")
    with pytest.raises(OSError, match="views"):
        plan_pool(later)
    assert later.plan.progress(JOB)["state"] == "failed"
    assert "views" in later.plan.progress(JOB)["message"]
    assert later.plan.order("mdal") == before


def test_the_result_of_a_check_is_recalled_until_a_file_changes(site: Site) -> None:
    assert not site.recall_check()
    site.check()
    later = open_site(site.studies)
    assert later.recall_check()
    assert later.verdicts == site.verdicts
    image = site.studies / "STS_002" / "CT.nii.gz"
    image.write_bytes(image.read_bytes()[:-100])
    assert not open_site(site.studies).recall_check()


def test_a_prepared_case_is_read_once_and_again_when_its_file_changed(site: Site) -> None:
    case = site.pool.by_id["STS_002"]
    first = site.cache.get(case)
    assert first.array.shape == (3, *first.foreground.shape)
    assert np.isfinite(first.array).all()
    size = site.cache.size()
    site.cache.get(case)
    assert site.cache.size() == size
    image = site.studies / "STS_002" / "CT.nii.gz"
    image.write_bytes((site.studies / "STS_041" / "CT.nii.gz").read_bytes())
    assert not np.array_equal(site.cache.get(case).array[1], first.array[1])


def test_the_cache_keeps_within_its_bound_and_drops_the_longest_unused(samples: Samples) -> None:
    studies = samples("STS_025", "STS_008", "STS_042")
    room = open_site(studies, work_dir=str(studies.parent / "room"))
    sizes = {id: room.cache.get(room.pool.by_id[id]).array.nbytes for id in room.pool.by_id}
    bound = (sizes["STS_025"] + sizes["STS_042"]) * 1.3 / 1e9
    site = open_site(studies, cache_gb=bound)
    for id in ("STS_025", "STS_008", "STS_042"):
        site.cache.get(site.pool.by_id[id])
        assert site.cache.size() <= bound * 1e9
    kept = {path.parent.name for path in site.cache.folder.glob("*/case.json")}
    assert site.cache.key(site.pool.by_id["STS_042"]) in kept
    assert (
        site.cache.key(site.pool.by_id["STS_008"]) not in kept
        or site.cache.key(site.pool.by_id["STS_025"]) not in kept
    )
