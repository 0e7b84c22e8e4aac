"""Regions and subtasks: the rows of a decomposition, and what they must satisfy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Region:
    """A structure that the network outlines.

    Attributes:
        name: Unique in its decomposition.
        labels: Label values whose union it is; regions may be nested: ET {3} in TC {1, 3} in WT {1, 2, 3}.
    """

    name: str
    labels: tuple[int, ...]


@dataclass(frozen=True)
class Subtask:
    """Some regions, the modalities that show them best, and those that may add to it.

    Attributes:
        name: Unique in its decomposition.
        primary: Modalities whose features are decoded.
        auxiliary: Modalities that send messages.
        regions: Names of the regions that its decoder outlines.
    """

    name: str
    primary: tuple[str, ...]
    auxiliary: tuple[str, ...]
    regions: tuple[str, ...]


def own_label(region: Region, regions: Sequence[Region]) -> int:
    """The label that a region paints: the one that no region inside it has."""
    return min(_own_labels(region, regions))


def _own_labels(region: Region, regions: Sequence[Region]) -> set[int]:
    """Labels of a region that no region inside it has."""
    inner = (set(other.labels) for other in regions if set(other.labels) < set(region.labels))
    return set(region.labels).difference(*inner)


def check_labels(labels: Mapping[str, int]) -> None:
    """Refuse label values with a gap."""
    if not labels or set(labels.values()) != set(range(1, len(labels) + 1)) or len(labels) > 255:
        raise ValueError(f"labels must have the values 1..n without a gap, at most 255; got {dict(labels)}.")


def check_regions(regions: Sequence[Region], values: set[int]) -> None:
    """Refuse regions that do not cover the labels, nested or apart, outer before inner."""
    check_unique([region.name for region in regions], "regions")
    for position, region in enumerate(regions):
        labels = set(region.labels)
        if not labels or not labels <= values:
            raise ValueError(
                f"regions: labels of {region.name!r} must be among {sorted(values)}; got {region.labels}."
            )
        for earlier in regions[:position]:
            if labels >= set(earlier.labels):
                raise ValueError(
                    f"regions: {region.name!r} must come before {earlier.name!r}, which lies inside "
                    "it, and no two may be the same."
                )
            if labels & set(earlier.labels) and not labels < set(earlier.labels):
                raise ValueError(
                    f"regions: {earlier.name!r} and {region.name!r} must be nested or share no label."
                )
        if len(_own_labels(region, regions)) != 1:
            raise ValueError(
                f"regions: {region.name!r} must have exactly one label that no region inside it has; "
                f"got {sorted(_own_labels(region, regions))}. Add a region for each label."
            )
    missing = values.difference(*(region.labels for region in regions))
    if missing:
        raise ValueError(f"regions must cover every label; none has {sorted(missing)}.")


def check_subtasks(subtasks: Sequence[Subtask], regions: Sequence[str]) -> None:
    """Refuse subtasks that do not cover the regions, or that name a modality twice."""
    check_unique([task.name for task in subtasks], "subtasks")
    for task in subtasks:
        if not task.primary:
            raise ValueError(f"subtasks: primary of {task.name!r} must name a modality; got none.")
        check_unique((*task.primary, *task.auxiliary), f"subtasks: primary and auxiliary of {task.name!r}")
        if not task.regions or not set(task.regions) <= set(regions):
            raise ValueError(
                f"subtasks: regions of {task.name!r} must be among {', '.join(regions)}; got {task.regions}."
            )
        check_unique(task.regions, f"subtasks: regions of {task.name!r}")
    missing = set(regions).difference(*(task.regions for task in subtasks))
    if missing:
        raise ValueError(f"subtasks must cover every region; none has {', '.join(sorted(missing))}.")


def check_unique(names: Sequence[str], field: str) -> None:
    """Refuse an empty list and one that names something twice."""
    if not names or len(set(names)) != len(names):
        raise ValueError(f"{field} must be named, each once; got {list(names)}.")
