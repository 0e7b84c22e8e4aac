"""A label as it comes: what is refused, what is stored, and what the reader is warned of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lib.cases.case import Case, Source
from lib.cases.formats.image import Grid, Volume, read_segments
from lib.cases.formats.voxels import present_values
from lib.cases.placement import outlined_part, share_within, volume_on
from lib.labels.meaning import LabelMeanings
from lib.labels.values import check_label, segments_of, value_by_segment
from lib.runtime.errors import UserError

FAR_LARGER = 5.0  # times the volume of the pre-segmentation, or as many times smaller


@dataclass(frozen=True, eq=False)
class Arrived:
    """A label that can be stored, and that training can read.

    Attributes:
        grid: Grid of the image that it was drawn on.
        segments: Name and value of each structure in the file.
        warnings: Sentences for the reader who sent it.
    """

    grid: Grid
    segments: tuple[tuple[str, int], ...]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class LabelChecks:
    """Checks of the labels of a pool.

    Attributes:
        meanings: Meaning of the values in label files.
        reference: Returns the grid that labels of a case are learned on.
        max_voxels: Largest number of voxels of a label.
    """

    meanings: LabelMeanings
    reference: Callable[[Case], Grid]
    max_voxels: int

    def check(
        self,
        file: Path,
        case: Case,
        notes: Mapping[str, Any],
        *,
        begun_from: Volume | None = None,
        learnable: bool = True,
    ) -> Arrived:
        """Check a label of a case.

        Args:
            file: Label file.
            case: Case of the label.
            notes: Notes of the client; `label_info` names the segments.
            begun_from: Mask (uint8) of the pre-segmentation that the reader began from, if it is known.
            learnable: Whether something of the label must be left on the grid that it is learned on. A label
                that exists elsewhere already, as in a PACS, is a record all the same; training leaves it out.

        Raises:
            UserError: If the label cannot be read, or training could not learn from it although it must; the
                sentence says what must hold.
        """
        label = check_label(file, case, max_voxels=self.max_voxels)
        segments, others = self._meaning(label, file, case, notes)
        mask = outlined_part(label)
        if learnable and mask and not volume_on(mask, self.reference(case)):
            raise UserError(
                "a label must cover at least one voxel of the case's reference image, on whose grid it is "
                "learned; nothing of this one is left there. Outline it on that image."
            )
        warnings = [
            *([_empty(case)] if mask is None else []),
            *([_other_segments(others, self.meanings)] if others else []),
            *_compared(mask, begun_from),
        ]
        return Arrived(label.grid, segments, tuple(warnings))

    def _meaning(
        self, label: Volume, file: Path, case: Case, notes: Mapping[str, Any]
    ) -> tuple[tuple[tuple[str, int], ...], list[str]]:
        """Structures of the file with their values, and the names of the segments that are none of ours."""
        values, labels = present_values(label.array) - {0}, self.meanings.numbering.labels
        segments = segments_of(notes) or list(read_segments(Source(file, display_name="a label")))
        if not segments:
            names = {value: name for name, value in labels.items()}
            table = self._table(case, values)
            return tuple((names[ours], value) for value, ours in sorted(table.items())), []
        if not values:
            return tuple((name, labels[name]) for name, _ in segments if name in labels), []
        found = {name: value for name, value in value_by_segment(values, segments).items() if value in values}
        if not labels.keys() & {name for name, _ in segments}:
            raise UserError(
                f"a segment must be named {' or '.join(labels)}; "
                f"got {', '.join(name for name, _ in segments)}. Rename the segment."
            )
        return tuple(found.items()), [name for name in found if name not in labels]

    def _table(self, case: Case, values: set[int]) -> dict[int, int]:
        """Our value for each value of a file without names; the app's own numbering comes first."""
        own = set(self.meanings.numbering.labels.values())
        if values <= own:
            return {value: value for value in values}
        table = self.meanings.of(case.id, values)
        if moved := sorted(value for value in values & own if table[value] != value):
            raise UserError(
                "a label without names of segments must have the values "
                f"{dict(self.meanings.numbering.labels)}; it also holds {sorted(values - own)}, and in the "
                f"edition that {case.id} is named for, {moved} mean others. Send it with the names of its "
                "segments."
            )
        return table


def _empty(case: Case) -> str:
    return f"This label is empty: it says that there is nothing to outline in {case.id}."


def _other_segments(others: list[str], meanings: LabelMeanings) -> str:
    return (
        f"{', '.join(others)} is none of {', '.join(meanings.numbering.labels)}: it stays in the file, and "
        "no model learns it."
    )


def _compared(mask: Volume | None, begun_from: Volume | None) -> list[str]:
    """How far a label is from the pre-segmentation that the reader saw."""
    if begun_from is None or not begun_from.array.any():
        return []
    before = float(begun_from.array.sum()) * begun_from.grid.voxel_ml
    if mask is None:
        return [f"The pre-segmentation has {before:.3g} ml, and this label none."]
    volume, found = float(mask.array.sum()) * mask.grid.voxel_ml, []
    if volume > FAR_LARGER * before or FAR_LARGER * volume < before:
        found.append(f"This label has {volume:.3g} ml, and the pre-segmentation {before:.3g} ml.")
    if not share_within(mask, begun_from.array.astype(bool), begun_from.grid):
        found.append("This label shares no voxel with the pre-segmentation.")
    return [f"{sentence} Is it of the right case and place?" for sentence in found]
