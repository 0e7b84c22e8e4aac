"""Checks of the labels that clients send, and the meaning of their values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import Any, Protocol

from lib.cases.case import Case, Source
from lib.cases.formats.image import FILE_SUFFIXES, Volume, read_grid, read_label_map, suffix_of
from lib.cases.formats.voxels import MAX_LABEL
from lib.cases.placement import LEAST_INSIDE, outlined_part, share_inside
from lib.runtime.errors import UserError


class Numbering(Protocol):
    """Value of each structure: the part of a decomposition that labels need.

    Attributes:
        labels: Value 1..n of each structure.
        import_values: This app's value for each value in files of other programs.
    """

    @property
    def labels(self) -> Mapping[str, int]:
        """Value of each structure."""

    @property
    def import_values(self) -> Mapping[int, int]:
        """This app's value for each value of other programs."""


def check_label(file: Path, case: Case, *, max_voxels: int) -> Volume:
    """Read a label of this case, uint16, and check it; an empty label is valid and means no lesion.

    Memory: 2 bytes a voxel and about 4 MB to read the label, and 1 more byte a voxel to compare it with the
    images. A label may have as many voxels as any volume, because Slicer outlines on
    finer grids than the image's; a larger label is refused from its header.

    Raises:
        UserError: If the file is no label map, has values that are not whole numbers, or lies outside the
            case in part. The message says "a label" rather than the path, which the client need not know.
    """
    suffix = suffix_of(file)
    if not suffix or file.name.lower().endswith(".seg.nrrd"):
        raise UserError(
            f"a label must be a label map in {', '.join(FILE_SUFFIXES)}; got "
            f"{''.join(file.suffixes)[-20:] or 'a name without a suffix'!r}. Save it as a label map."
        )
    if file.is_file() and file.stat().st_size == 0:
        raise UserError("a label must hold voxels; the file that was sent has 0 bytes. Send it again.")
    label = read_label_map(Source(file, display_name="a label"), max_voxels=max_voxels)
    if mask := outlined_part(label):
        grids = (read_grid(source, max_voxels=max_voxels) for source in case.modalities.values())
        inside = max(share_inside(mask, grid) for grid in grids)
        if inside < LEAST_INSIDE:
            part = (
                f"{inside:.0%} of this one lies inside a volume" if inside else "it lies outside every volume"
            )
            raise UserError(
                f"a label must lie on its case, {LEAST_INSIDE:.0%} of it or more; {part} of {case.id}. "
                "Is it another patient's?"
            )
    return label


def segments_of(info: Mapping[str, Any]) -> list[tuple[str, int]]:
    """Name and value of each segment, as Slicer sends them with a label; empty if it sent none.

    Raises:
        UserError: If `label_info` is not a list of names and values.
    """
    segments = info.get("label_info") or []
    try:
        pairs = [(segment["name"], segment["idx"]) for segment in segments]
    except (TypeError, KeyError):
        pairs = [("", None)]
    named = all(name and isinstance(name, str) for name, _ in pairs)
    if not named or not all(type(value) is int and 0 <= value <= MAX_LABEL for _, value in pairs):
        raise UserError(
            'label_info must be a list of {"name": "lesion", "idx": 1}, with idx from 0 to '
            f"{MAX_LABEL:,}; got {str(segments)[:80]}. Send each segment's name and value."
        )
    return pairs


def value_by_segment(found: Set[int], segments: Sequence[tuple[str, int]]) -> dict[str, int]:
    """Value of each segment in the voxels: either the sent value or the segment's position in the list.

    Slicer's plugin sends values that count segments which it then leaves out (`background`, scribbles), while
    it numbers the voxels without those segments.

    Args:
        found: Values in the voxels, without 0.
        segments: Name and value of each segment, as the client sent them.

    Raises:
        UserError: If both readings fit the voxels and differ, or none does.
    """
    sent = dict(segments)
    places = {name: place for place, (name, _) in enumerate(segments, start=1)}
    fitting = [table for table in (sent, places) if found <= set(table.values())]
    meanings = {tuple(sorted((v, n) for n, v in table.items() if v in found)) for table in fitting}
    if len(meanings) != 1:
        raise UserError(
            f"a label's values {str(sorted(found))[:80]} must say which segment is which; label_info has "
            f"{str(dict(segments))[:80]}. Remove other segments (background) and submit again."
        )
    return fitting[0]
