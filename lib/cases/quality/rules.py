"""Rules that give each measured case a verdict, in the light of the whole pool.

Every limit is a constant below. The limits of alignment were set on undamaged CT, PET and MR, and on
deliberately damaged copies of half of those patients. They are ratios or millimetres, so they do not depend
on the grey values of a scanner.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from lib.cases.quality.alignment import MIN_EVIDENCE, Fit
from lib.cases.quality.findings import CHOSEN, Finding, Severity, Status, Verdict
from lib.cases.quality.overlap_rules import CHECK_REGISTRATION, OVERLAP_RULES, Rule
from lib.cases.quality.pool_statistics import Facts, PoolStatistics, extents, readable, sound_part
from lib.cases.quality.volume_rules import findings_of_volumes, missing
from lib.cases.quality.wording import apart, listed, towards
from lib.cases.unexpected_errors import as_case_error
from lib.runtime.errors import UserError

MOVE_MM = 10.0  # smallest displacement that matters; less is within breathing and the search step
SPREAD_MM = 10.0  # largest disagreement of the other modalities on the position of the displaced one
GAIN_AGREED, GAIN_ALONE, GAIN_GROSS = 0.10, 0.20, 0.35  # see Fit.gain
MIRROR_WARNED, MIRROR_QUARANTINED = 1.06, 1.25  # see Fit.mirror
UNRELATED_MIRROR, UNRELATED_LEVEL = 0.90, 0.75  # of the own mirror image; of the pool's median
SPACING_FACTOR, EXTENT_FACTOR, DEVIATIONS = 1.25, 4.0, 6.0  # an outlier exceeds the factor and the deviations


def apply_rules(
    measurements: Mapping[str, Facts],
    modalities: Sequence[str],
    notes: Mapping[str, Sequence[str]] | None = None,
) -> dict[str, Verdict]:
    """Verdict on each case in the light of all cases.

    Args:
        measurements: Results of `measure` by case id.
        modalities: Modalities of the pool; a case that lacks one gets a warning.
        notes: Sentences by case id on what was left out of a case; each is a warning.

    Returns:
        Verdict of each case, by id.
    """
    sound = {case: sound_part(facts) for case, facts in measurements.items()}
    usual = PoolStatistics.of(sound)
    verdicts = {}
    for case, facts in measurements.items():
        findings = [
            *missing(facts, modalities),
            *(Finding(CHOSEN, "warned", (), note) for note in (notes or {}).get(case, ())),
            *findings_of_volumes(facts),
            *_related(case, sound[case], usual),
        ]
        severities = {finding.severity for finding in findings}
        status: Status = "quarantined" if "quarantined" in severities else "warned" if severities else "ok"
        graver_first = sorted(findings, key=lambda finding: finding.severity != "quarantined")
        verdicts[case] = Verdict(status, tuple(graver_first))
    return verdicts


def _related(case: str, facts: Facts, usual: PoolStatistics) -> list[Finding]:
    """Findings of the rules that compare a case with its pool; one that cannot be judged is quarantined."""
    try:
        with as_case_error(f"case {case}"):
            return [found for rule in RULES for found in rule(case, facts, usual)]
    except UserError as err:
        return [Finding("unreadable", "quarantined", tuple(facts["modalities"]), str(err))]


def _geometry(_case: str, facts: Facts, usual: PoolStatistics) -> Iterator[Finding]:
    """Voxel size and field of view, compared with the pool's median."""
    for name, volume in readable(facts).items():
        for what, value in extents(volume).items():
            if (name, what) not in usual.geometry:
                continue
            median, deviation = usual.geometry[name, what]
            factor = SPACING_FACTOR if what == "spacing" else EXTENT_FACTOR
            off = np.abs(np.log(value) - median)
            limit = np.maximum(DEVIATIONS * deviation, math.log(factor))
            if (off > limit).any():
                axis = int((off / limit).argmax())
                noun = "voxel size" if what == "spacing" else "field of view"
                text = (
                    f"{name} has a {noun} of {_millimetres(value)}; {_millimetres(np.exp(median))} is usual "
                    "in this pool. Check the header and the protocol."
                )
                yield Finding(what, "warned", (name,), text, math.exp(off[axis]), math.exp(limit[axis]))


def _mirrored(_case: str, facts: Facts, _usual: PoolStatistics) -> Iterator[Finding]:
    """Modality that fits the others better when mirrored."""
    fit = max((fit for fit in _fits(facts) if fit.is_conclusive), key=lambda fit: fit.mirror, default=None)
    if fit and fit.mirror > MIRROR_WARNED:
        times, most = apart(fit.mirror, MIRROR_WARNED)
        text = (
            f"{fit.name} fits {listed(fit.others)} {times} times as well when mirrored {fit.axis} "
            f"(at most {most} expected). Check its orientation, and that it is this patient's."
        )
        severity: Severity = "quarantined" if fit.mirror > MIRROR_QUARANTINED else "warned"
        yield Finding("mirrored", severity, (fit.name, *fit.others), text, fit.mirror, MIRROR_WARNED)


def _displaced(_case: str, facts: Facts, _usual: PoolStatistics) -> Iterator[Finding]:
    """Modality that fits the others clearly better in another position."""
    fit = max(filter(_gains_by_moving, _fits(facts)), key=lambda fit: fit.gain, default=None)
    if fit:
        by, less = apart(fit.distance, MOVE_MM, decimals=0)
        text = (
            f"{fit.name} fits {listed(fit.others)} better when moved {towards(fit.move, lengths=True)} "
            f"({by} mm; less than {less} mm expected). {CHECK_REGISTRATION}"
        )
        severity: Severity = "quarantined" if fit.gain > GAIN_GROSS else "warned"
        yield Finding("displaced", severity, (fit.name, *fit.others), text, fit.distance, MOVE_MM)


def _gains_by_moving(fit: Fit) -> bool:
    agreed = len(fit.others) > 1 and fit.spread <= SPREAD_MM
    return (
        fit.is_conclusive and fit.distance >= MOVE_MM and fit.gain >= (GAIN_AGREED if agreed else GAIN_ALONE)
    )


def _unrelated(_case: str, facts: Facts, usual: PoolStatistics) -> Iterator[Finding]:
    """Modality that fits the others hardly better than its mirror image, and less well than usual."""
    for fit in _fits(facts):
        level = usual.levels.get((fit.name, fit.others), 0.0)
        if level < MIN_EVIDENCE * len(fit.others):
            continue
        part = fit.level / level
        if fit.mirror > UNRELATED_MIRROR and part < UNRELATED_LEVEL:
            well, least = apart(part, UNRELATED_LEVEL, decimals=0, percent=True)
            text = (
                f"{fit.name} fits {listed(fit.others)} hardly better than its mirror image, "
                f"and {well} as well as usual (at least {least} expected). "
                "Check that it is this patient's."
            )
            yield Finding("unrelated", "warned", (fit.name, *fit.others), text, part, UNRELATED_LEVEL)


def _fits(facts: Facts) -> list[Fit]:
    return [fit for name in facts["modalities"] if (fit := Fit.of(name, facts["pairs"]))]


def _duplicates(case: str, facts: Facts, usual: PoolStatistics) -> Iterator[Finding]:
    """Identical voxels: twice in one case, in all images of another case, or in one image of another case."""
    own = {name: volume["voxels"] for name, volume in readable(facts).items() if volume["std"] > 0.0}
    names = list(own)
    for index, name in enumerate(names):
        for other in names[index + 1 :]:
            if own[name] == own[other]:
                yield Finding(
                    "same_image",
                    "quarantined",
                    (name, other),
                    f"{name} and {other} are the same image. Export the right one.",
                )
    twins = {name: usual.owners.get((name, voxels), set()) - {case} for name, voxels in own.items()}
    if whole := set.intersection(*twins.values()) if twins else set():
        if (first := min(whole)) < case:
            yield Finding(
                "duplicate",
                "quarantined",
                tuple(own),
                f"Every image is the same as in case {first}. Leave one of the two out.",
            )
        return
    for name, others in twins.items():
        if others:
            yield Finding(
                "duplicate_image",
                "quarantined",
                (name,),
                f"{name} is the same image as in case {min(others)}. Find out which patient it shows.",
            )


RULES: tuple[Rule, ...] = (
    _geometry,
    *OVERLAP_RULES,
    _mirrored,
    _displaced,
    _unrelated,
    _duplicates,
)


def _millimetres(value: NDArray[np.float64]) -> str:
    """Sizes along D, H, W as a viewer shows them, W first."""
    return " x ".join(f"{size:.4g}" for size in value[::-1]) + " mm"
