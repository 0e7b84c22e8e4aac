"""Regions and subtasks, the rows of a decomposition, and their checks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import StrictInt, with_config

MAX_LABELS = 254  # clients hold labels as uint8, and 255 marks voxels that nobody annotated
MAX_FILE_VALUE = 65535


@with_config(extra="forbid")
@dataclass(frozen=True)
class Region:
    """A structure that the network outlines.

    Attributes:
        name: Name, unique in the decomposition.
        labels: Label values whose union is the region; regions may be nested: ET {3} in TC {1, 3} in
            WT {1, 2, 3}.
    """

    name: str
    labels: tuple[StrictInt, ...]


@with_config(extra="forbid")
@dataclass(frozen=True)
class Subtask:
    """Subtask: some regions, the modalities that show them best, and the modalities that send messages.

    Attributes:
        name: Name, unique in the decomposition.
        primary: Modalities whose features are decoded.
        auxiliary: Modalities that send messages.
        regions: Names of the regions that the decoder of the subtask outlines.
    """

    name: str
    primary: tuple[str, ...]
    auxiliary: tuple[str, ...]
    regions: tuple[str, ...]


def own_label(region: Region, regions: Sequence[Region]) -> int:
    """Label that a region paints: the label that no region inside it has."""
    return min(_own_labels(region, regions))


def _own_labels(region: Region, regions: Sequence[Region]) -> set[int]:
    """Labels of a region that no region inside it has."""
    inner = (set(other.labels) for other in regions if set(other.labels) < set(region.labels))
    return set(region.labels).difference(*inner)


def check_labels(labels: Mapping[str, int]) -> None:
    """Refuse label values with a gap, and a background label."""
    for name in labels:
        if not name.strip() or name.strip().lower() == "background":
            raise ValueError(
                f"labels must name structures, and the background is none; got {name!r}. Leave it out: every "
                "other voxel is 0."
            )
    if not labels or set(labels.values()) != set(range(1, len(labels) + 1)) or len(labels) > MAX_LABELS:
        raise ValueError(
            f"labels must have the values 1..n without a gap, at most {MAX_LABELS}; got {dict(labels)}. "
            "Number them anew, and say in import_values what other values in files mean."
        )


def check_maps(imports: Mapping[int, int], exports: Mapping[int, int], values: set[int]) -> None:
    """Refuse maps that make a file value ambiguous or that cannot be reversed.

    A file does not state its numbering, so a value 1..n always means itself.
    """
    highest = len(values)
    for theirs, ours in imports.items():
        if not highest < theirs <= MAX_FILE_VALUE:
            raise ValueError(
                f"import_values[{theirs}] must be for a value {highest + 1}..{MAX_FILE_VALUE}, as "
                f"0..{highest} mean themselves in every file; got {theirs}. Renumber such files instead."
            )
        if ours not in values:
            raise ValueError(f"import_values[{theirs}] must be a label, {_listed(values)}; got {ours}.")
    for ours, theirs in exports.items():
        if ours not in values:
            raise ValueError(f"export_values[{ours}] must be for a label, {_listed(values)}; got {ours}.")
        if imports.get(theirs) != ours:
            raise ValueError(
                f"export_values[{ours}] must be a value that import_values maps back to {ours}; "
                f"got {theirs}. Add `{theirs}: {ours}` to import_values."
            )


def check_regions(regions: Sequence[Region], values: set[int]) -> None:
    """Refuse regions that do not cover all labels, overlap without nesting, or list inner before outer."""
    check_unique([region.name for region in regions], "regions")
    for position, region in enumerate(regions):
        labels, field = set(region.labels), f"regions[{position}].labels"
        check_unique(region.labels, field)
        if not labels <= values:
            raise ValueError(
                f"{field} must be among the labels' values {_listed(values)}; got {_listed(region.labels)}."
            )
        for earlier in regions[:position]:
            _check_order(earlier, region, field)
        if len(_own_labels(region, regions)) != 1:
            raise ValueError(
                f"{field} must have exactly one value that no region inside {region.name!r} has; "
                f"got {_listed(_own_labels(region, regions)) or 'none'}. Give each label a region."
            )
    if missing := values.difference(*(region.labels for region in regions)):
        raise ValueError(
            f"regions must cover every label; none has {_listed(missing)}. Give each label a region."
        )


def _check_order(earlier: Region, region: Region, field: str) -> None:
    outer, labels = set(earlier.labels), set(region.labels)
    if labels >= outer:
        raise ValueError(
            f"{field} must differ from and not enclose those of a region before it; got "
            f"{_listed(region.labels)} of {region.name!r} after {_listed(earlier.labels)} of "
            f"{earlier.name!r}. List the outer region first."
        )
    if labels & outer and not labels < outer:
        raise ValueError(
            f"{field} must lie inside those of {earlier.name!r} or share none with them; got "
            f"{_listed(region.labels)} and {_listed(earlier.labels)}. Nest the regions or part them."
        )


def check_subtasks(subtasks: Sequence[Subtask], regions: Sequence[str]) -> None:
    """Refuse subtasks that do not cover the regions, or that name a modality twice."""
    check_unique([task.name for task in subtasks], "subtasks")
    for position, task in enumerate(subtasks):
        field = f"subtasks[{position}]"
        check_unique(task.primary, f"{field}.primary")
        if task.auxiliary:
            check_unique(task.auxiliary, f"{field}.auxiliary")
        if both := set(task.primary) & set(task.auxiliary):
            raise ValueError(
                f"{field}.auxiliary must name other modalities than primary; got {', '.join(sorted(both))} "
                "in both. Take it out of one."
            )
        check_unique(task.regions, f"{field}.regions")
        if unknown := [name for name in task.regions if name not in regions]:
            raise ValueError(
                f"{field}.regions must be among {', '.join(regions)}; got {unknown[0]!r}. Add it to regions, "
                "or correct the name."
            )
    if missing := set(regions).difference(*(task.regions for task in subtasks)):
        raise ValueError(
            f"subtasks must cover every region; none has {', '.join(sorted(missing))}. Add it to the regions "
            "of a subtask."
        )


def check_unique(names: Sequence[object], field: str) -> None:
    """Refuse an empty list, duplicates and blank names."""
    if not names or len(set(names)) != len(names) or any(not str(name).strip() for name in names):
        raise ValueError(f"{field} must name at least one, each once; got {list(names)}. Correct the list.")


def _listed(values: Sequence[int] | set[int]) -> str:
    return ", ".join(map(str, sorted(values)))
