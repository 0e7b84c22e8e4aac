"""Labels that clients send: what is accepted, and what their numbers mean."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lib.cases.case import Case, CaseError, Source
from lib.cases.image import FILE_SUFFIXES, Volume, read_grid, read_volume, resample, suffix_of


def check_label(file: Path, case: Case, *, max_voxels: int) -> None:
    """Refuse what cannot be a label of this case; an empty label is an answer.

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


def segment_values(info: Mapping[str, Any]) -> dict[str, int]:
    """Value of each segment by its name, as Slicer sends it with a label; empty where it was not sent.

    Raises:
        CaseError: If `label_info` is not a list of names and values.
    """
    segments = info.get("label_info") or []
    try:
        values = {segment["name"]: segment["idx"] for segment in segments}
    except (TypeError, KeyError):
        values = {"": None}
    if not all(name and isinstance(name, str) and type(value) is int for name, value in values.items()):
        raise CaseError(
            'label_info must be a list of {"name": "lesion", "idx": 1}; '
            f"got {str(segments)[:80]}. Send each segment's name and value."
        )
    return values


def our_values(volume: Volume, labels: Mapping[str, int], segments: Mapping[str, int]) -> Volume:
    """A label with this app's values, uint8.

    Values are mapped by the segments' names where the client told them, as clients renumber. Segments with
    other names become background here; they stay in the stored file.

    Args:
        volume: As stored.
        labels: Value by name, 1..n.
        segments: Value by name as the client numbered them; empty means that its values are ours.

    Raises:
        CaseError: If there are no names and a value is none of ours.
    """
    found = {int(value) for value in np.unique(volume.array)} - {0}
    if not segments and (unknown := sorted(found - set(labels.values()))):
        known = ", ".join(f"{value} {name}" for name, value in labels.items())
        raise CaseError(
            f"the label's values must be 0, {known}; got {unknown}. Name them with --conf labels."
        )
    theirs = segments or labels
    array = np.zeros(volume.array.shape, dtype=np.uint8)
    for name in labels.keys() & theirs.keys():
        array[volume.array == theirs[name]] = labels[name]
    return Volume(array, volume.grid)


def without_brats_gap(volume: Volume) -> Volume:
    """BraTS until 2020 numbers enhancing tumour 4 and leaves 3 out; here values are contiguous."""
    if (volume.array == 3).any():
        return volume
    return Volume(np.where(volume.array == 4, 3, volume.array), volume.grid)


def _overlaps(label: Volume, source: Source) -> bool:
    return bool(resample(label, read_grid(source), nearest=True).array.any())
