"""What more labels are expected to bring, what they cost, and whether labelling may stop."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from lib.ciml.label_gain import (
    FLAT,
    LEAST_PATIENTS,
    LEAST_VERSIONS,
    Judged,
    LabelGain,
    label_gain,
    mean_interval,
)
from lib.labels.store import FINAL
from lib.pipeline.workspace import Workspace
from lib.runtime.words import counted

COMING = 10  # further labels whose gain is told
FEW_PATIENTS = 3  # validation patients below which Dice says little


def more_labels(workspace: Workspace, versions: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Sentences for a study lead.

    Args:
        workspace: Workspace of the labels.
        versions: What is known of the versions of the model, oldest first.

    Returns:
        `gain` with `headline` and `evidence`, and `effort`.
    """
    judged = [
        Judged(about["version"], len(patients_of(workspace, cases)), dice)
        for about in versions
        if (dice := _dice_of_patients(workspace, about))
        and (cases := [*about.get("trained_on", []), *about.get("validated_on", [])])
    ]
    gain = label_gain(judged, coming=COMING)
    return {"gain": _not_known() if gain is None else _told(gain), "effort": _effort(workspace)}


def dice_interval(workspace: Workspace, about: Mapping[str, Any]) -> list[float] | None:
    """95 % interval of a version's mean Dice over its validation patients; None if they are too few."""
    dice = _dice_of_patients(workspace, about)
    return [*mean_interval(list(dice.values()))] if len(dice) >= FEW_PATIENTS else None


def patients_of(workspace: Workspace, case_ids: Sequence[str]) -> frozenset[str]:
    """Patients of some cases; a case that is gone counts as a separate patient."""
    cases = workspace.pool.by_id
    return frozenset(cases[id].patient if id in cases else id for id in case_ids)


def _dice_of_patients(workspace: Workspace, about: Mapping[str, Any]) -> dict[str, float]:
    """Dice of a version by validation patient; empty for a version that kept no figures of cases."""
    by_patient = defaultdict[str, list[float]](list)
    for id, dice in about.get("dice_by_case", {}).items():
        (patient,) = patients_of(workspace, [id])
        by_patient[patient].append(dice)
    return {patient: statistics.mean(dice) for patient, dice in by_patient.items()}


def _not_known() -> dict[str, str]:
    return {
        "headline": "What more labels bring is not known yet.",
        "evidence": (
            f"It takes {LEAST_VERSIONS} versions that were judged on the same {LEAST_PATIENTS} validation "
            "patients or more, the last of them with at least half as many labels again as the first."
        ),
    }


def _told(gain: LabelGain) -> dict[str, str]:
    (expected, (low, high)), (doubling, (least, most)) = gain.coming, gain.doubling
    if gain.is_flat:
        headline = f"The curve is flat: you may stop. {COMING} more labels bring less than {FLAT} Dice."
    elif low > 0.0:
        headline = f"More labels help: {COMING} are expected to bring {expected:+.3f} Dice."
    else:
        headline = (
            f"Whether more labels help is not known: {COMING} may bring nothing, or up to {high:+.3f} Dice."
        )
    return {
        "headline": headline,
        "evidence": (
            f"On the {counted(gain.patients, 'validation patient')} that versions {gain.first.version} to "
            f"{gain.last.version} share, twice as many labels brought {doubling:+.3f} Dice "
            f"[{least:+.3f}, {most:+.3f}], from {gain.first.labels} to {gain.last.labels} labelled patients. "
            f"{COMING} more labels: {expected:+.3f} [{low:+.3f}, {high:+.3f}]. In brackets: 95 % intervals "
            "over the patients. A part of the gain may come from longer training, as a training goes on from "
            "the version that answers."
        ),
    }


def _effort(workspace: Workspace) -> str:
    current = (versions.get(FINAL) for versions in workspace.labels.log.current.values())
    abouts = (version.about for version in current if version is not None)
    minutes = [about["seconds_since_offer"] / 60 for about in abouts if "seconds_since_offer" in about]
    left = len({case.id for case in workspace.verdicts.served} - workspace.labels.labelled())
    if not minutes:
        return f"{counted(left)} without a label."
    pace = statistics.median(minutes)
    return (
        f"{counted(left)} without a label. A case took {pace:.0f} minutes from its offer to its label in the "
        f"median of {len(minutes)}. At that pace, one reader needs {left * pace / 60:.1f} hours for the rest."
    )
