"""Whether the model is getting better."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lib.ciml.checkpoint import load
from lib.overview.learning_curve import learning_curve
from lib.settings import AppSettings
from lib.site import Site
from lib.training_stats import TrainingStats
from tests.networks import outline_uptake


@pytest.fixture
def site(samples: Callable[..., Path]) -> Site:
    return Site(samples("STS_008", "STS_025", "STS_042"), AppSettings())


def publish(site: Site, **about: Any) -> int:
    return site.models.publish(load(site.models.current())[0], about)


def test_without_a_model_it_is_said_what_to_do(site: Site) -> None:
    assert learning_curve(site)["sentence"].startswith("No model yet. Label 2 patients")


def test_only_versions_judged_on_the_same_patients_share_a_letter(site: Site) -> None:
    outline_uptake(site)
    for validated in (["STS_008"], ["STS_008", "STS_042"], ["STS_042", "STS_008"]):
        publish(site, trained_on=["STS_025", "gone"], validated_on=validated, dice=0.5)
    told = learning_curve(site)
    assert [version["validation"] for version in told["versions"]] == [None, "A", "B", "B"]
    assert told["validations"][1] == {"name": "B", "patients": ["STS_008", "STS_042"]}
    assert [version["learned_patients"] for version in told["versions"]] == [0, 2, 2, 2]
    assert [version["validation_patients"] for version in told["versions"]] == [0, 1, 2, 2]


def test_the_page_says_which_version_answers_and_why(site: Site) -> None:
    outline_uptake(site)
    publish(site)
    assert learning_curve(site)["answers"]["version"] == 2
    site.models.choose(1)
    answers = learning_curve(site)["answers"]
    assert (answers["version"], answers["why"]) == (1, "It was chosen on this page.")
    fixed = Site(site.studies, AppSettings(model_version=2))
    answers = learning_curve(fixed)["answers"]
    assert (answers["version"], answers["fixed"]) == (2, True)
    assert "--conf model_version" in answers["why"]


def test_failures_of_the_version_that_answers_come_worst_first(site: Site) -> None:
    outline_uptake(site)
    assert "not kept" in learning_curve(site)["cases"]["sentence"]
    publish(site, dice_by_case={"STS_008": 0.7, "STS_042": 0.2, "gone": 0.9})
    rows = learning_curve(site)["cases"]["rows"]
    assert [(row["case"], row["here"]) for row in rows] == [
        ("STS_042", True), ("STS_008", True), ("gone", False),
    ]  # fmt: skip


def test_a_damaged_version_is_listed_with_its_problem_and_a_training_with_its_state(site: Site) -> None:
    outline_uptake(site)
    publish(site)
    site.models.file(1).write_bytes(b"half")
    stats = TrainingStats(site.work / "model")
    with stats.training():
        stats.write({"state": "running", "epoch": 2, "total_epochs": 10, "seconds_left": 30.0})
        told = learning_curve(site)
    assert "must be a complete checkpoint" in told["versions"][0]["problem"]
    assert told["training"]["seconds_left"] == 30.0
