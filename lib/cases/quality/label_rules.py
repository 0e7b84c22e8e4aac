"""Rules that hold back a label beside the images; its case is served as one without a label.

The limits were set on 51 sarcomas, 39 gliomas and a case of multiple sclerosis: every label kept its whole
volume, and at least 99.9 % of it lay in the body as one of its images shows it. Turned, a label fitted its
images at most 1.02 times as well, and CT and MR alone at most 1.14 times.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from lib.cases.placement import LEAST_INSIDE
from lib.cases.quality.findings import LABEL_MISPLACED, LABEL_UNUSABLE, Finding, Verdict
from lib.cases.quality.releases import how_to_release
from lib.cases.quality.wording import apart

TURNED, LEAST_TOLD = 1.35, 0.15  # see `turned_fit`: best / present, and the least that `best` must be
LEAST_IN_BODY = 0.90  # share of the label; in skin and at the surface the outline of the body is rough
_HELD = "Its label is held back: the case is served as one without a label."


def with_label_findings(
    verdicts: Mapping[str, Verdict], measurements: Mapping[str, Mapping[str, Any]], refused: Mapping[str, str]
) -> dict[str, Verdict]:
    """Verdicts that also name the labels to hold back; such a case is served, with a warning.

    Args:
        verdicts: Verdicts on the images by case id.
        measurements: Results of `measure` by case id.
        refused: Why the values of a label cannot be used, as a sentence by case id.
    """
    judged = {}
    for case, verdict in verdicts.items():
        found = tuple(label_findings(case, measurements[case].get("label", {}), refused.get(case, "")))
        status = "warned" if found and verdict.status == "ok" else verdict.status
        judged[case] = Verdict(status, (*verdict.findings, *found))
    return judged


def label_findings(case: str, label: Mapping[str, Any], refusal: str) -> Iterator[Finding]:
    """Findings on the label beside the images of a case.

    Args:
        case: Id of the case.
        label: Facts as returned by `label_facts`; empty if the case has no label.
        refusal: Why the values cannot be used, as a sentence; empty if they can.
    """
    if problem := label.get("error", "") or refusal:
        problem = problem[:1].upper() + problem[1:]
        yield Finding(LABEL_UNUSABLE, "warned", (), f"{_HELD} {problem}")
    elif "ml" in label and (found := _misplaced(label)):
        sentence, value, limit = found
        remedy = (
            f"Correct the label's header and copy it again; if it is right as it is, {how_to_release(case)}"
        )
        yield Finding(LABEL_MISPLACED, "warned", (), f"{_HELD} {sentence} {remedy}", value, limit)


def _misplaced(label: Mapping[str, Any]) -> tuple[str, float, float] | None:
    """What is wrong with the label's place, its measure and the limit; None if nothing is."""
    reference, ml, kept = label["reference"], label["ml"], label["kept_ml"]
    inside, body = label["inside"][reference], max(label["body"].values(), default=1.0)
    if twin := label["twin"]:
        return (
            f"It has the size of {twin['modality']} but lies elsewhere, {twin['apart_mm']:.0f} mm away (the "
            "same place expected): position, voxel size or axes were lost in one of the two headers.",
            twin["apart_mm"],
            0.0,
        )
    if inside < LEAST_INSIDE:
        share, least = apart(inside, LEAST_INSIDE, decimals=0, percent=True)
        return (
            f"{share} of it lies inside the field of view of {reference}, on whose grid the cases are "
            f"learned from (at least {least} expected).",
            inside,
            LEAST_INSIDE,
        )
    if body < LEAST_IN_BODY:
        share, least = apart(body, LEAST_IN_BODY, decimals=0, percent=True)
        return (
            f"{share} of it lies in the body (at least {least} expected).",
            body,
            LEAST_IN_BODY,
        )
    turned = label["turned"]
    if turned and turned["best"] >= max(LEAST_TOLD, TURNED * turned["present"]):
        times = turned["best"] / max(turned["present"], 1e-3)
        return (
            f"It fits its images {times:.1f} times as well when {turned['turn']} (at most {TURNED:g} times "
            "expected): its axes were mirrored or exchanged.",
            times,
            TURNED,
        )
    lost, limit = 1.0 - kept / ml, 1.0 - LEAST_INSIDE + 1.0 / math.sqrt(ml / label["reference_ml"])
    if kept == 0.0 or lost > limit:
        return (
            f"Of {ml:.3g} ml {kept:.3g} ml are left on the grid of {reference}, whose voxels are too coarse "
            "for it: choose another image as --conf reference.",
            lost,
            limit,
        )
    return None
