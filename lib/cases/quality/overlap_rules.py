"""Rules on how far the modalities of a case show the same region, and lie on each other there.

A fault of one modality stands out in each of its pairs. It is told once, of that modality.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from lib.cases.quality.alignment import MIN_SHARED
from lib.cases.quality.findings import Finding
from lib.cases.quality.pool_statistics import (
    SHARED_GRID_FRACTION,
    Facts,
    PoolStatistics,
    readable,
    same_grid,
)
from lib.cases.quality.wording import apart, listed, towards

CHECK_REGISTRATION = "Check the registration or leave the case out."

OUTLINE_WARNED, OUTLINE_QUARANTINED = 0.80, 0.75  # Dice of body outlines; registered ones have 0.83 and more
OUTLINE_BELOW_POOL = 0.10  # if outlines differ by protocol, the limit is the pool's median minus this
SHARED_FIELD = 0.6  # shared field of view, as a fraction of the pool's median
COVERED_BODY = 0.9  # share of the body of all others; a pool whose median is lower has such a protocol

Rule = Callable[[str, Facts, PoolStatistics], Iterator[Finding]]


@dataclass(frozen=True)
class _Failed:
    """A pair of modalities with a figure below its limit."""

    pair: tuple[str, str]
    value: float
    limit: float


def _covered(_case: str, facts: Facts, usual: PoolStatistics) -> Iterator[Finding]:
    """Modality that shows only a part of the body that all others show."""
    for name in _truncated(facts, usual):
        volume = facts["modalities"][name]
        others = [other for other in readable(facts) if other != name]
        share, least = apart(volume["covered"], COVERED_BODY, decimals=0, percent=True)
        side = (
            f" The rest lies towards the {towards(volume['missing_mm'])}." if "missing_mm" in volume else ""
        )
        text = (
            f"{name} covers only part of the body that {listed(others)} {'show' if others[1:] else 'shows'}: "
            f"{share} (at least {least} expected).{side} Check that the whole region was scanned."
        )
        yield Finding("truncated", "warned", (name, *others), text, volume["covered"], COVERED_BODY)


def _truncated(facts: Facts, usual: PoolStatistics) -> list[str]:
    return [
        name
        for name, volume in readable(facts).items()
        if 0.0 < volume.get("covered", 1.0) < COVERED_BODY <= usual.covered.get(name, 1.0)
    ]


def _fields_of_view(_case: str, facts: Facts, usual: PoolStatistics) -> Iterator[Finding]:
    """Fields of view that do not overlap, or overlap less than usual, unless `_covered` tells the cause."""
    told = set(_truncated(facts, usual))
    disjoint, little = [], []
    for pair in facts["pairs"]:
        first, second = pair["modalities"]
        limit = SHARED_FIELD * usual.pairs.get((first, second, "shared"), 0.0)
        failed = _Failed((first, second), pair["shared"], limit)
        if pair["shared"] == 0.0:
            disjoint.append(failed)
        elif pair["shared"] < limit and not told & {first, second}:
            little.append(failed)
    for names, _ in _by_cause(disjoint):
        text = (
            f"{names[0]} and {listed(names[1:])} show different regions: their fields of view do not "
            "overlap. Check that all are this patient's, or leave the case out."
        )
        yield Finding("no_overlap", "quarantined", names, text, 0.0)
    for names, worst in _by_cause(little):
        shared, least = apart(worst.value, worst.limit, decimals=0, percent=True)
        text = (
            f"{names[0]} and {listed(names[1:])} share {shared} of the field of view (at least {least} "
            "expected in this pool). Check that the whole region was scanned."
        )
        yield Finding("coverage", "warned", names, text, worst.value, worst.limit)


def _grids(_case: str, facts: Facts, usual: PoolStatistics) -> Iterator[Finding]:
    """Different grids although the pool shares one: a changed header, or another patient's image."""
    volumes = readable(facts)
    failed = [
        _Failed(pair, 0.0, 0.0)
        for pair in usual.one_grid
        if set(pair) <= volumes.keys() and not same_grid(volumes[pair[0]], volumes[pair[1]])
    ]
    for names, _ in _by_cause(failed):
        text = (
            f"{names[0]} and {listed(names[1:])} do not have the same grid, as they have in at least "
            f"{SHARED_GRID_FRACTION:.0%} of this pool. Check voxel size and origin in the headers."
        )
        yield Finding("grid", "warned", names, text)


def _outlines(_case: str, facts: Facts, usual: PoolStatistics) -> Iterator[Finding]:
    """Body outlines that do not overlap as expected."""
    failed = []
    for pair in facts["pairs"]:
        first, second = pair["modalities"]
        limit = min(OUTLINE_WARNED, usual.pairs.get((first, second, "dice"), 1.0) - OUTLINE_BELOW_POOL)
        if pair["dice"] is not None and pair["shared"] >= MIN_SHARED and pair["dice"] < limit:
            failed.append(_Failed((first, second), pair["dice"], limit))
    for names, worst in _by_cause(failed):
        gross = worst.value < worst.limit - (OUTLINE_WARNED - OUTLINE_QUARANTINED)
        dice, least = apart(worst.value, worst.limit)
        what = f"{names[0]} and {names[1]} do not lie on each other: their body outlines overlap by {dice}"
        if names[2:]:
            other = next(name for name in worst.pair if name != names[0])
            what = (
                f"{names[0]} does not lie on {listed(names[1:])}: "
                f"its body outline overlaps by {dice} with that of {other}"
            )
        yield Finding(
            "outlines",
            "quarantined" if gross else "warned",
            names,
            f"{what} (at least {least} expected). {CHECK_REGISTRATION}",
            worst.value,
            worst.limit,
        )


def _by_cause(failed: Sequence[_Failed]) -> Iterator[tuple[tuple[str, ...], _Failed]]:
    """Modalities of each fault, the cause first, with the pair that is furthest below its limit.

    If one modality is in every failed pair, it is the cause of all; otherwise each pair is a fault.
    """
    if not failed:
        return
    shared = set.intersection(*(set(one.pair) for one in failed))
    if len(failed) > 1 and shared:
        (cause,) = shared
        others = (name for one in failed for name in one.pair if name != cause)
        yield (cause, *others), min(failed, key=lambda one: one.value - one.limit)
    else:
        yield from ((one.pair, one) for one in failed)


OVERLAP_RULES: tuple[Rule, ...] = (_covered, _fields_of_view, _grids, _outlines)
