"""Whether the model is getting better: its versions, what they were judged on, which one answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lib.pipeline.training_data import LEAST_PATIENTS
from lib.pipeline.training_stats import TrainingStats
from lib.pipeline.workspace import Workspace

_TOLD = (
    "created",
    "dice",
    "dice_by_region",
    "surface_distance_by_region",
    "previous_version",
    "previous_dice",
    "went_on_from",
    "problem",
)
_OF_TRAINING = ("state", "message", "epoch", "total_epochs", "seconds_left", "current_time", "warnings")
RULE = (
    "A training goes on from the version that answers. Where a version was chosen here, the choice ends when "
    "a training that began with it publishes a version that is not worse on the same validation patients; "
    "that one answers then. A choice made while a training runs stays."
)


def learning_curve(workspace: Workspace) -> dict[str, Any]:
    """The versions of a site's model, oldest first, and a training that runs; JSON."""
    versions = workspace.models.versions()
    newest = versions[-1]["version"] if versions else 0
    answers = _answers(workspace, newest)
    groups: list[frozenset[str]] = []  # validation patients, in the order in which they were first used
    told = [_version(workspace, about, groups, answers["version"]) for about in versions]
    current = next((about for about in versions if about["version"] == answers["version"]), {})
    return {
        "sentence": _sentence(workspace, versions),
        "answers": {**answers, "rule": RULE},
        "regions": [region.name for region in workspace.decomposition.regions],
        "versions": told,
        "validations": [{"name": _letter(n), "patients": sorted(group)} for n, group in enumerate(groups)],
        "cases": _failures(workspace, current),
        "training": _training(workspace),
    }


def _sentence(workspace: Workspace, versions: Sequence[Mapping[str, Any]]) -> str:
    if not versions:
        return (
            f"No model yet. Label {LEAST_PATIENTS} patients, submit the labels and press Train in Slicer or "
            "OHIF."
        )
    return ""


def _answers(workspace: Workspace, newest: int) -> dict[str, Any]:
    """Which version answers, and why."""
    chosen = workspace.models.chosen()
    why = "It was chosen on this page." if chosen else "It is the newest."
    return {"version": chosen or newest, "why": why, "chosen": chosen}


def _version(
    workspace: Workspace, about: Mapping[str, Any], groups: list[frozenset[str]], answering: int
) -> dict[str, Any]:
    learned, validated = (_patients(workspace, about.get(key, [])) for key in ("trained_on", "validated_on"))
    if validated and validated not in groups:
        groups.append(validated)
    return {
        "version": about["version"],
        "answers": about["version"] == answering,
        "learned_patients": len(learned),
        "validation_patients": len(validated),
        "validation": _letter(groups.index(validated)) if validated else None,
        **{key: about[key] for key in _TOLD if about.get(key) not in (None, {})},
    }


def _patients(workspace: Workspace, case_ids: Sequence[str]) -> frozenset[str]:
    """Whose cases they are; a case that is gone counts as a patient of its own."""
    cases = workspace.pool.by_id
    return frozenset(cases[id].patient if id in cases else id for id in case_ids)


def _letter(number: int) -> str:
    """A, B, …, Z, A1, …: short enough for a chart."""
    return chr(ord("A") + number % 26) + (str(number // 26) if number >= 26 else "")


def _failures(workspace: Workspace, about: Mapping[str, Any]) -> dict[str, Any]:
    """Dice of each validation patient of the version that answers, worst first."""
    dice = about.get("dice_by_case")
    if not dice:
        kept = "The figures of single cases were not kept with this version. The next training keeps them."
        return {"rows": [], "sentence": kept if about else ""}
    return {
        "rows": [
            {"case": id, "dice": round(value, 4), "here": id in workspace.pool.by_id}
            for id, value in sorted(dice.items(), key=lambda row: (row[1], row[0]))
        ],
        "sentence": "",
    }


def _training(workspace: Workspace) -> dict[str, Any]:
    """The last or running training; empty before the first."""
    stats = TrainingStats(workspace.folders.work / "model").read()
    return {key: stats[key] for key in _OF_TRAINING if key in stats}
