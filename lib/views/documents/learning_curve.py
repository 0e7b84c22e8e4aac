"""Learning curve of the model: its versions, their validation, and the version that answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lib.pipeline.training_data import LEAST_PATIENTS
from lib.pipeline.training_stats import TrainingStats
from lib.pipeline.workspace import Workspace
from lib.views.documents.more_labels import FEW_PATIENTS, dice_interval, more_labels, patients_of

_VERSION_KEYS = (
    "created",
    "dice",
    "dice_by_region",
    "surface_distance_by_region",
    "previous_version",
    "previous_dice",
    "went_on_from",
    "problem",
)
_TRAINING_KEYS = ("state", "message", "epoch", "total_epochs", "seconds_left", "current_time", "warnings")
EQUAL_DICE = 0.005  # change of Dice that is none
RULE = (
    "A training starts from the version that answers. If you choose a version here, it answers until a "
    "training that started from it publishes a version that is not worse on the same validation patients; "
    "then the new version answers. A choice made while a training runs stays."
)


def learning_curve(workspace: Workspace) -> dict[str, Any]:
    """Versions of the model, oldest first, and the running or last training; JSON."""
    versions = workspace.models.versions()
    newest = versions[-1]["version"] if versions else 0
    answers = _answers(workspace, newest)
    groups: list[frozenset[str]] = []  # sets of validation patients, in the order of first use
    shown = [_version(workspace, about, groups, answers["version"]) for about in versions]
    current = next((about for about in versions if about["version"] == answers["version"]), {})
    return {
        "sentence": _sentence(workspace, versions),
        "headline": _headline(next((about for about in shown if about["answers"]), None)),
        "answers": {**answers, "rule": RULE},
        "regions": [region.name for region in workspace.decomposition.regions],
        "versions": shown,
        "validations": [{"name": _letter(n), "patients": sorted(group)} for n, group in enumerate(groups)],
        **more_labels(workspace, versions),
        "cases": _failures(workspace, current),
        "training": _training(workspace),
    }


def _sentence(workspace: Workspace, versions: Sequence[Mapping[str, Any]]) -> str:
    if versions:
        return ""
    labelled = workspace.labels.labelled()
    patients = {case.patient for case in workspace.verdicts.served if case.id in labelled}
    if len(patients) >= LEAST_PATIENTS:
        return f"No model yet. {len(patients)} labelled patients are there: press Train."
    return f"No model yet. Label {LEAST_PATIENTS} patients and submit the labels; {len(patients)} are there."


def _headline(version: Mapping[str, Any] | None) -> str:
    """Whether the version that answers is better than the one before it, and what that is worth."""
    if version is None:
        return ""
    dice, before, number = version.get("dice"), version.get("previous_dice"), version["validation_patients"]
    if dice is None or not number:
        return "Nobody knows: the version that answers was not validated."
    on = f"on {number} validation {'patient' if number == 1 else 'patients'}"
    if before is None:
        told = f"The first version that was validated: Dice {dice:.2f} {on}."
    else:
        change = dice - before
        word = "As good as" if abs(change) < EQUAL_DICE else "Better than" if change > 0 else "Worse than"
        told = f"{word} version {version['previous_version']}: Dice {before:.2f} → {dice:.2f} {on}."
    if number < FEW_PATIENTS:
        told = f"Too few patients validate the model to judge it. {told}"
    return told


def _answers(workspace: Workspace, newest: int) -> dict[str, Any]:
    """Version that answers, and the reason."""
    chosen = workspace.models.chosen()
    why = "It was chosen on this page." if chosen else "It is the newest."
    return {"version": chosen or newest, "why": why, "chosen": chosen}


def _version(
    workspace: Workspace, about: Mapping[str, Any], groups: list[frozenset[str]], answering: int
) -> dict[str, Any]:
    learned, validated = (
        patients_of(workspace, about.get(key, [])) for key in ("trained_on", "validated_on")
    )
    if validated and validated not in groups:
        groups.append(validated)
    return {
        "version": about["version"],
        "answers": about["version"] == answering,
        "learned_patients": len(learned),
        "validation_patients": len(validated),
        "validation": _letter(groups.index(validated)) if validated else None,
        "dice_interval": dice_interval(workspace, about),
        **{key: about[key] for key in _VERSION_KEYS if about.get(key) not in (None, {})},
    }


def _letter(number: int) -> str:
    """A, B, …, Z, A1, …: short enough for a chart."""
    return chr(ord("A") + number % 26) + (str(number // 26) if number >= 26 else "")


def _failures(workspace: Workspace, about: Mapping[str, Any]) -> dict[str, Any]:
    """Dice of the version that answers on each validation patient, worst first."""
    dice = about.get("dice_by_case")
    if not dice:
        kept = "This version has no figures of single cases. The next training records them."
        return {"rows": [], "sentence": kept if about else ""}
    return {
        "rows": [
            {"case": id, "dice": round(value, 4), "here": id in workspace.pool.by_id}
            for id, value in sorted(dice.items(), key=lambda row: (row[1], row[0]))
        ],
        "sentence": "",
    }


def _training(workspace: Workspace) -> dict[str, Any]:
    """Statistics of the running or last training; empty before the first."""
    stats = TrainingStats(workspace.folders.work / "model").read()
    return {key: stats[key] for key in _TRAINING_KEYS if key in stats}
