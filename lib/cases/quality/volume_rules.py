"""Rules on the volumes of a case, each judged by itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lib.cases.quality.findings import UNFETCHED, Finding
from lib.cases.quality.plausibility import doubts
from lib.cases.quality.pool_statistics import Facts, readable


def findings_of_volumes(facts: Facts) -> Iterator[Finding]:
    """What is wrong with a volume whatever the others show."""
    yield from _values(facts)
    yield from _implausible(facts)
    yield from _tilted(facts)


def missing(facts: Facts, modalities: Sequence[str]) -> Iterator[Finding]:
    """Modalities of the pool that a case lacks."""
    for name in modalities:
        if name not in facts["modalities"]:
            yield Finding("missing", "warned", (name,), f"{name} is missing. The case is used without it.")


def _values(facts: Facts) -> Iterator[Finding]:
    """Volumes that are unreadable, not finite, empty or constant."""
    for name, volume in facts["modalities"].items():
        if "error" in volume:
            code = UNFETCHED if volume.get("unfetched") else "unreadable"
            yield Finding(code, "quarantined", (name,), f"{name} cannot be read: {volume['error']}")
        elif volume["finite"] < 1.0:
            part = 1.0 - volume["finite"]
            text = (
                f"{name} has no valid number in {part:.2%} of its voxels (NaN or infinity). Export it again."
            )
            yield Finding("not_finite", "quarantined", (name,), text, part, 0.0)
        elif volume["min"] == volume["max"]:
            code = "constant" if volume["max"] else "empty"
            text = f"{name} holds no image: every voxel is {volume['max']:g}. Export it again."
            yield Finding(code, "quarantined", (name,), text, volume["max"])


def _implausible(facts: Facts) -> Iterator[Finding]:
    """Volumes that no scanner produces; they are excluded from all comparisons."""
    for name, volume in readable(facts).items():
        for doubt in doubts(name, volume):
            yield Finding(
                doubt.code, "quarantined", (name,), f"{name} {doubt.sentence}", doubt.value, doubt.limit
            )


def _tilted(facts: Facts) -> Iterator[Finding]:
    """Volumes whose slices did not lie straight above each other."""
    for name, volume in readable(facts).items():
        if volume["tilt"]:
            text = (
                f"{name} has slices tilted by {volume['tilt']:.1f} degrees (gantry tilt). It was resampled "
                "to a straight grid; labels go back onto its own slices."
            )
            yield Finding("tilted", "warned", (name,), text, volume["tilt"], 0.0)
