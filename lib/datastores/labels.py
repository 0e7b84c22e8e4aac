"""Labels that clients send: what is accepted, and what their numbers mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lib.cases.case import Case, CaseError, Source
from lib.cases.image import FILE_SUFFIXES, Volume, read_grid, read_volume, resample, suffix_of
from lib.ciml.decomposition import Decomposition


def check_label(file: Path, case: Case, *, max_voxels: int) -> Volume:
    """Read what can be a label of this case; an empty label is an answer.

    Raises:
        CaseError: If it is no label map, holds other than whole numbers, or lies elsewhere.
    """
    if not suffix_of(file) or file.name.lower().endswith(".seg.nrrd"):
        raise CaseError(
            f"a label must be a label map in {', '.join(FILE_SUFFIXES)}; got {file.name[-20:]!r}. "
            "Save it as a label map."
        )
    label = read_volume(Source(file), max_voxels=max_voxels)
    finite = np.isfinite(label.array).all()
    if not finite or (label.array != np.round(label.array)).any() or label.array.min() < 0:
        raise CaseError("a label must hold whole numbers from 0; got others. Save segments as a label map.")
    if label.array.any() and not any(_overlaps(label, source) for source in case.modalities.values()):
        raise CaseError(
            f"a label must lie on its case; this one lies outside every volume of {case.id}. "
            "Is it another patient's?"
        )
    return label


def segments_of(info: Mapping[str, Any]) -> list[tuple[str, int]]:
    """Name and value of each segment, as Slicer sends them with a label; empty where it did not.

    Raises:
        CaseError: If `label_info` is not a list of names and values.
    """
    segments = info.get("label_info") or []
    try:
        pairs = [(segment["name"], segment["idx"]) for segment in segments]
    except (TypeError, KeyError):
        pairs = [("", None)]
    if not all(name and isinstance(name, str) and type(value) is int for name, value in pairs):
        raise CaseError(
            'label_info must be a list of {"name": "lesion", "idx": 1}; '
            f"got {str(segments)[:80]}. Send each segment's name and value."
        )
    return pairs


def check_segments(label: Volume, info: Mapping[str, Any], labels: Mapping[str, int]) -> None:
    """Refuse a label that would be read as empty though the reader drew something.

    Raises:
        CaseError: If its segments cannot be told apart, or none has a name of this app.
    """
    segments = segments_of(info)
    if segments and label.array.any():
        _values(label, segments)
        if not labels.keys() & {name for name, _ in segments}:
            raise CaseError(
                f"a segment must be named {' or '.join(labels)}; "
                f"got {', '.join(name for name, _ in segments)}. Rename the segment."
            )


def our_values(volume: Volume, labels: Mapping[str, int], segments: Sequence[tuple[str, int]]) -> Volume:
    """A label with this app's values, uint8.

    Values are mapped by the segments' names where the client told them, as clients renumber. Segments with
    other names become background here; they stay in the stored file.

    Args:
        volume: As stored.
        labels: Value by name, 1..n.
        segments: Name and value as the client numbered them; none means that its values are ours.

    Raises:
        CaseError: If there are no names and a value is none of ours.
    """
    if not segments and (unknown := sorted(_found(volume) - set(labels.values()))):
        known = ", ".join(f"{value} {name}" for name, value in labels.items())
        raise CaseError(
            f"the label's values must be 0, {known}; got {unknown}. Name them with --conf labels, or "
            "say what they mean in import_values of a table of your own."
        )
    theirs = _values(volume, segments) if segments else labels
    array = np.zeros(volume.array.shape, dtype=np.uint8)
    for name in labels.keys() & theirs.keys():
        array[volume.array == theirs[name]] = labels[name]
    return Volume(array, volume.grid)


def imported(volume: Volume, decomposition: Decomposition) -> Volume:
    """A label file's numbers as this app's, where they come without names; BraTS's 4 becomes 3.

    Raises:
        CaseError: If the file mixes two numberings.
    """
    try:
        return Volume(decomposition.imported(volume.array), volume.grid)
    except ValueError as err:
        raise CaseError(str(err)) from err


def _values(volume: Volume, segments: Sequence[tuple[str, int]]) -> dict[str, int]:
    """Value of each segment in the voxels: the one that was sent, or its place in the list.

    Slicer's plugin sends places that count segments which it then leaves out (`background`, scribbles), while
    it numbers the voxels without those.
    """
    sent = dict(segments)
    places = {name: place for place, (name, _) in enumerate(segments, start=1)}
    found = _found(volume)
    fitting = [table for table in (sent, places) if found <= set(table.values())]
    meanings = {tuple(sorted((v, n) for n, v in table.items() if v in found)) for table in fitting}
    if len(meanings) != 1:
        raise CaseError(
            f"a label's values {sorted(found)} must say which segment is which; label_info has "
            f"{dict(segments)}. Remove other segments (background) and submit again."
        )
    return fitting[0]


def _found(volume: Volume) -> set[int]:
    return {int(value) for value in np.unique(volume.array)} - {0}


def _overlaps(label: Volume, source: Source) -> bool:
    return bool(resample(label, read_grid(source), nearest=True).array.any())
