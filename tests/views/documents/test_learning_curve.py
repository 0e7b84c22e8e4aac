"""Whether the model is getting better."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lib.ciml.checkpoint import load
from lib.labels.origin import Origin
from lib.labels.store import FINAL
from lib.pipeline.settings import AppSettings
from lib.pipeline.training_stats import TrainingStats
from lib.pipeline.workspace import Workspace
from lib.views.documents.learning_curve import learning_curve
from tests.conftest import SAMPLES
from tests.support.networks import outline_uptake


@pytest.fixture
def workspace(samples: Callable[..., Path]) -> Workspace:
    return Workspace(samples("STS_008", "STS_025", "STS_042"), AppSettings())


def publish(workspace: Workspace, **about: Any) -> int:
    return workspace.models.publish(load(workspace.models.current())[0], about)


def test_without_a_model_it_is_said_what_to_do(workspace: Workspace) -> None:
    told = learning_curve(workspace)
    assert told["sentence"] == "No model yet. 3 labelled patients are there: press Train."
    assert told["headline"] == ""
    afresh = Workspace(workspace.folders.studies, AppSettings(study_labels="ignore"))
    assert learning_curve(afresh)["sentence"].startswith(
        "No model yet. Label 2 patients and submit the labels; 0"
    )


@pytest.mark.parametrize(
    ("dice", "previous", "patients", "said"),
    [
        (
            0.834,
            0.82,
            ("STS_008", "a", "b"),
            "Better than version 1: Dice 0.82 → 0.83 on 3 validation patients.",
        ),
        (
            0.822,
            0.82,
            ("STS_008", "a", "b"),
            "As good as version 1: Dice 0.82 → 0.82 on 3 validation patients.",
        ),
        (
            0.70,
            None,
            ("STS_008",),
            "Too few patients validate the model to judge it. The first version",
        ),
        (None, None, (), "Nobody knows: the version that answers was not validated."),
    ],
)
def test_the_headline_answers_whether_the_model_is_better(
    workspace: Workspace, dice: float | None, previous: float | None, patients: tuple[str, ...], said: str
) -> None:
    outline_uptake(workspace)
    before = {} if previous is None else {"previous_version": 1, "previous_dice": previous}
    publish(workspace, trained_on=["STS_025"], validated_on=list(patients), dice=dice, **before)
    assert said in learning_curve(workspace)["headline"]


def test_only_versions_judged_on_the_same_patients_share_a_letter(workspace: Workspace) -> None:
    outline_uptake(workspace)
    for validated in (["STS_008"], ["STS_008", "STS_042"], ["STS_042", "STS_008"]):
        publish(workspace, trained_on=["STS_025", "gone"], validated_on=validated, dice=0.5)
    told = learning_curve(workspace)
    assert [version["validation"] for version in told["versions"]] == [None, "A", "B", "B"]
    assert told["validations"][1] == {"name": "B", "patients": ["STS_008", "STS_042"]}
    assert [version["learned_patients"] for version in told["versions"]] == [0, 2, 2, 2]
    assert [version["validation_patients"] for version in told["versions"]] == [0, 1, 2, 2]


def test_the_page_says_which_version_answers_and_why(workspace: Workspace) -> None:
    outline_uptake(workspace)
    publish(workspace)
    assert learning_curve(workspace)["answers"]["version"] == 2
    workspace.models.choose(1)
    answers = learning_curve(workspace)["answers"]
    assert (answers["version"], answers["why"]) == (1, "It was chosen on this page.")


def test_failures_of_the_version_that_answers_come_worst_first(workspace: Workspace) -> None:
    outline_uptake(workspace)
    assert "no figures of single cases" in learning_curve(workspace)["cases"]["sentence"]
    publish(workspace, dice_by_case={"STS_008": 0.7, "STS_042": 0.2, "gone": 0.9})
    rows = learning_curve(workspace)["cases"]["rows"]
    assert [(row["case"], row["here"]) for row in rows] == [
        ("STS_042", True), ("STS_008", True), ("gone", False),
    ]  # fmt: skip


def test_a_damaged_version_is_listed_with_its_problem_and_a_training_with_its_state(
    workspace: Workspace,
) -> None:
    outline_uptake(workspace)
    publish(workspace)
    workspace.models.file(1).write_bytes(b"half")
    stats = TrainingStats(workspace.folders.work / "model")
    with stats.training():
        stats.write({"state": "running", "epoch": 2, "total_epochs": 10, "seconds_left": 30.0})
        told = learning_curve(workspace)
    assert "must be a complete checkpoint" in told["versions"][0]["problem"]
    assert told["training"]["seconds_left"] == 30.0


def test_what_more_labels_bring_is_told_with_its_evidence(workspace: Workspace) -> None:
    outline_uptake(workspace)
    told = learning_curve(workspace)
    assert told["gain"]["headline"] == "What more labels bring is not known yet."
    assert "3 versions that were judged on the same 5 validation patients" in told["gain"]["evidence"]
    assert told["versions"][-1]["dice_interval"] is None
    patients = ["a", "b", "c", "d", "e"]
    for labels, dice in ((5, 0.5), (15, 0.7), (35, 0.8)):
        publish(
            workspace,
            dice=dice,
            dice_by_case={name: dice + 0.01 * place for place, name in enumerate(patients)},
            trained_on=[f"l{number}" for number in range(labels)],
            validated_on=patients,
        )
    told = learning_curve(workspace)
    assert told["gain"]["headline"].startswith("More labels help: 10 are expected to bring +0.0")
    assert "5 validation patients that versions 2 to 4 share" in told["gain"]["evidence"]
    assert "from 10 to 40 labelled patients" in told["gain"]["evidence"]
    low, high = told["versions"][-1]["dice_interval"]
    assert 0.8 <= low < 0.82 < high <= 0.84


def test_what_labelling_took_and_what_is_left_is_told(samples: Callable[..., Path]) -> None:
    workspace = Workspace(samples("STS_008", "STS_025", "STS_042"), AppSettings(study_labels="ignore"))
    assert learning_curve(workspace)["effort"] == "3 cases without a label."
    case = workspace.pool.by_id["STS_008"]
    origin = Origin("submitted", "ann", about={"seconds_since_offer": 600.0})
    workspace.labels.save(case, SAMPLES / "STS_008" / "GTV.nii.gz", FINAL, {}, origin)
    assert learning_curve(workspace)["effort"] == (
        "2 cases without a label. A case took 10 minutes from its offer to its label in the median of 1. "
        "At that pace, one reader needs 0.3 hours for the rest."
    )
