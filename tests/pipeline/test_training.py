"""From labels to a published model."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from lib.ciml.checkpoint import load
from lib.ciml.network.ciml_network import CimlNetwork
from lib.ciml.network.settings import NetworkSettings
from lib.ciml.training.train import EpochReport, TrainingResult, TrainingSettings
from lib.ciml.training.validation import Validation
from lib.pipeline.settings import AppSettings
from lib.pipeline.training import train_workspace
from lib.pipeline.training_stats import TrainingStats
from lib.pipeline.workspace import Workspace
from lib.runtime.errors import UserError
from tests.support.pools import label_for

THREE = ("STS_025", "STS_008", "STS_042")


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def workspace(samples: Callable[..., Path]) -> Workspace:
    return Workspace(samples(*THREE), AppSettings(train_epochs=1))


@pytest.fixture
def learn(monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """Train with a stand-in that moves every weight and claims a Dice; `before` is the published model's."""

    def run(
        workspace: Workspace, *, dice: float, before: float = 0.0, shift: float = 0.01, **options: Any
    ) -> dict[str, Any]:
        def stand_in(network: CimlNetwork, *_: object, **more: Any) -> TrainingResult:
            with torch.no_grad():
                for weight in network.parameters():
                    weight.add_(shift)
            found = Validation({"lesion": dice}, {"lesion": 4.0})
            report = EpochReport(1, 1, 0.5, {2: 0.1}, found.dice_by_region, {"lesion": 4.0}, dice, 0.0)
            more["on_epoch"](report)
            return TrainingResult(1, found, [report])

        monkeypatch.setattr("lib.pipeline.distributed_training.train", stand_in)
        monkeypatch.setattr("lib.pipeline.training.validate", lambda *_, **__: Validation({"lesion": before}))
        return train_workspace(workspace, **options)

    return run


def with_settings(workspace: Workspace, **settings: object) -> Workspace:
    return Workspace(workspace.folders.studies, AppSettings(train_epochs=1, **settings))


def published(workspace: Workspace) -> dict[str, Any]:
    return load(workspace.models.current())[1]


def test_a_model_says_where_it_comes_from(workspace: Workspace, learn: Callable[..., dict[str, Any]]) -> None:
    learn(workspace, dice=0.6)
    learn(workspace, dice=0.7, before=0.6)
    about = published(workspace)
    assert (about["version"], about["previous_version"], about["went_on_from"]) == (2, 1, 1)
    assert (about["dice"], about["previous_dice"], about["seed"]) == (0.7, 0.6, 0)
    assert about["surface_distance_by_region"] == {"lesion": 4.0}
    assert sorted(about["trained_on"] + about["validated_on"]) == sorted(THREE)
    assert about["settings"]["epochs"] == 1
    assert {"torch", "monai"} <= about["software"].keys()


def test_a_worse_model_is_never_published(workspace: Workspace, learn: Callable[..., dict[str, Any]]) -> None:
    learn(workspace, dice=0.9)
    before = workspace.models.current().read_bytes()
    worse = learn(workspace, dice=0.8, before=0.9)
    assert (worse["published"], worse["version"], worse["previous_dice"]) == (False, 1, 0.9)
    assert "validation Dice 0.800; version 1 has 0.900 on the same cases" in worse["message"]
    assert workspace.models.current().read_bytes() == before
    assert learn(workspace, dice=0.95, before=0.9)["version"] == 2


def test_at_equal_dice_only_more_patients_make_a_new_version(
    workspace: Workspace, learn: Callable[..., dict[str, Any]], samples: Callable[..., Path]
) -> None:
    learn(workspace, dice=0.9)
    assert not learn(workspace, dice=0.9, before=0.9)["published"]
    samples("STS_024", "STS_041")
    stats = learn(with_settings(workspace), dice=0.9, before=0.9)
    assert stats["training_cases"] > 2
    assert (stats["published"], stats["version"]) == (True, 2)


def test_no_patient_is_on_both_sides_as_labels_arrive(
    workspace: Workspace, learn: Callable[..., dict[str, Any]], samples: Callable[..., Path]
) -> None:
    first = learn(workspace, dice=0.5)
    assert first["validated_on"]
    samples("STS_024", "STS_041", "STS_012")
    second = learn(with_settings(workspace), dice=0.6, before=0.5)
    assert set(first["validated_on"]) <= set(second["validated_on"])
    assert not set(second["validated_on"]) & set(second["trained_on"])


def test_too_few_labels_are_refused_with_how_many_are_missing(samples: Callable[..., Path]) -> None:
    workspace = Workspace(samples("STS_025", "STS_008", labels=False), AppSettings())
    with pytest.raises(UserError, match=r"at least 2 patients; there are 0\. Label 2 more"):
        train_workspace(workspace)
    assert "Label 2 more" in TrainingStats(workspace.folders.work / "model").read()["message"]


def test_a_label_that_cannot_be_learned_from_is_named_and_stops_no_other(
    workspace: Workspace, learn: Callable[..., dict[str, Any]]
) -> None:
    damaged = workspace.folders.studies / THREE[0] / "GTV.nii.gz"
    damaged.write_bytes(damaged.read_bytes()[:300])
    stats = learn(workspace, dice=0.5)
    assert sorted(stats["trained_on"] + stats["validated_on"]) == sorted(THREE[1:])
    (sentence,) = stats["warnings"]
    assert sentence.startswith(f"Case {THREE[0]} is not learned from: ")
    assert "GTV.nii.gz must be complete" in sentence


def test_training_goes_on_from_the_published_weights(
    workspace: Workspace, learn: Callable[..., dict[str, Any]]
) -> None:
    learn(workspace, dice=0.5)
    learn(workspace, dice=0.6, before=0.5, shift=1.0)
    first, second = (load(workspace.models.file(version))[0] for version in (1, 2))
    for before, after in zip(first.parameters(), second.parameters(), strict=True):
        torch.testing.assert_close(after, before + 1.0)


def test_a_choice_ends_with_the_training_that_went_on_from_it(
    workspace: Workspace, learn: Callable[..., dict[str, Any]]
) -> None:
    learn(workspace, dice=0.5)
    learn(workspace, dice=0.6, before=0.5)
    workspace.models.choose(1)
    assert not learn(workspace, dice=0.4, before=0.5)["published"]
    assert workspace.models.chosen() == 1
    stats = learn(workspace, dice=0.7, before=0.5)
    assert (stats["went_on_from"], stats["version"], workspace.models.chosen()) == (1, 3, 0)
    assert published(workspace)["version"] == 3
    assert published(workspace)["dice_by_case"] == {}


def test_a_choice_made_while_a_training_runs_stays(
    workspace: Workspace, learn: Callable[..., dict[str, Any]]
) -> None:
    def choose_while_it_trains(_: float, message: str) -> None:
        if message.startswith("epoch "):
            workspace.models.choose(1)

    learn(workspace, dice=0.5)
    learn(workspace, dice=0.6, before=0.5)
    stats = learn(workspace, dice=0.7, before=0.6, on_progress=choose_while_it_trains)
    assert (stats["went_on_from"], stats["version"], workspace.models.chosen()) == (2, 3, 1)
    assert "Version 1 still answers: it was chosen after this training began" in stats["message"]


@pytest.mark.parametrize(
    ("settings", "why"),
    [({"labels": ("necrosis",)}, "is for other modalities or labels"), ({"network": "base"}, "size base")],
)
def test_what_does_not_fit_is_trained_anew_and_says_so(
    workspace: Workspace, learn: Callable[..., dict[str, Any]], settings: dict[str, Any], why: str
) -> None:
    learn(workspace, dice=0.5)
    stats = learn(with_settings(workspace, **settings), dice=0.6, before=0.5)
    assert stats["went_on_from"] is None
    assert why in stats["warnings"][0]


def test_a_size_that_nobody_asked_for_is_kept(workspace: Workspace) -> None:
    network = CimlNetwork(
        workspace.decomposition, workspace.preparation.modalities, NetworkSettings.of_size("base")
    )
    workspace.models.publish(network, {"trained_on": []})
    stats = train_workspace(workspace, stop=lambda: True)
    assert stats["state"] == "stopped"
    assert not stats["warnings"]


def test_a_model_that_cannot_see_hounsfield_units_is_trained_anew_and_it_is_said(
    workspace: Workspace,
) -> None:
    earlier = replace(NetworkSettings.of_size("tiny"), absolute_values=False)
    network = CimlNetwork(workspace.decomposition, workspace.preparation.modalities, earlier)
    workspace.models.publish(network, {"trained_on": []})
    stats = train_workspace(workspace, stop=lambda: True)
    assert "made before CIML could see the values of CT and PET themselves" in stats["warnings"][0]


def test_a_model_that_learned_from_a_validation_patient_is_not_gone_on_from(
    workspace: Workspace, learn: Callable[..., dict[str, Any]]
) -> None:
    learned = learn(workspace, dice=0.5)["trained_on"]
    (workspace.folders.work / "model" / "split.json").write_text(
        json.dumps({id: "validation" if id == learned[0] else "training" for id in THREE})
    )
    stats = learn(workspace, dice=0.6, before=0.9)
    assert f"learned from {learned[0]}, now on the validation side" in stats["warnings"][0]
    assert stats["went_on_from"] is None


def test_a_damaged_model_is_replaced_and_it_is_said(
    workspace: Workspace, learn: Callable[..., dict[str, Any]]
) -> None:
    learn(workspace, dice=0.5)
    workspace.models.current().write_bytes(b"half")
    stats = learn(workspace, dice=0.4)
    assert (stats["published"], stats["version"]) == (True, 2)
    assert "must be a complete checkpoint" in stats["message"]


@pytest.mark.slow
def test_a_stopped_training_goes_on_and_ends_as_if_nothing_had_stopped_it(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    quick = TrainingSettings(epochs=2, steps_per_epoch=2, roi_size=(8, 32, 32), validate_every=1)
    monkeypatch.setattr("lib.pipeline.training.training_settings", lambda *_, **__: quick)
    told: list[str] = []

    def stop() -> bool:
        return any(message.startswith("epoch 1 ") for message in told)

    cut = train_workspace(workspace, on_progress=lambda _, said: told.append(said), stop=stop)
    assert (cut["state"], cut["epoch"]) == ("stopped", 1)
    assert cut["total_time"] > 0
    assert workspace.models.current() is None
    told.clear()
    resumed = train_workspace(workspace, on_progress=lambda _, said: told.append(said))
    assert not any(message.startswith("epoch 1 ") for message in told)
    whole_site = with_settings(workspace, work_dir=str(tmp_path / "whole"))
    whole = train_workspace(whole_site)
    assert resumed["dice"] == whole["dice"]
    weights = [load(each.models.current())[0].state_dict() for each in (workspace, whole_site)]
    for name, tensor in weights[0].items():
        torch.testing.assert_close(tensor, weights[1][name], rtol=0, atol=0)
    assert not list((workspace.folders.work / "training").glob("*.pt"))


def test_with_another_label_a_killed_training_starts_again(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    labels, files = workspace.labels, []

    def killed(*_: object, state_file: Path, **__: object) -> TrainingResult:
        files.append(state_file)
        state_file.write_bytes(b"state")
        raise KeyboardInterrupt

    monkeypatch.setattr("lib.pipeline.distributed_training.train", killed)
    for new_label in (False, False, True):
        if new_label:
            drawn = label_for(workspace, "STS_008", tmp_path / "drawn.nii.gz")
            labels.save(workspace.pool.by_id["STS_008"], drawn, "final", {})
        with pytest.raises(KeyboardInterrupt):
            train_workspace(workspace)
    assert files[0] == files[1] != files[2]
    assert list((workspace.folders.work / "training").glob("*.pt")) == [
        files[2]
    ]  # nothing is left of the other
    assert TrainingStats(workspace.folders.work / "model").read()["state"] == "stopped"


def test_clients_find_the_figures_that_they_show(
    workspace: Workspace, learn: Callable[..., dict[str, Any]]
) -> None:
    stats = learn(workspace, dice=0.6)
    assert (stats["epoch"], stats["total_epochs"], stats["best_metric"]) == (1, 1, 0.6)
    assert stats["total_time"] > 0
    assert stats["train"]["loss"] == 0.5
    assert stats["eval"]["dice_by_region"] == {"lesion": 0.6}
    assert stats["eval"]["surface_distance_by_region"] == {"lesion": 4.0}
    assert (stats["state"], stats["seconds_left"]) == ("done", 0.0)
