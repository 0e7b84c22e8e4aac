"""Thumbnails of a case: axial slices with the patient's right on the left and anterior at the top."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lib.cases.boxes import Box
from lib.cases.modalities import kind
from lib.cases.preprocessing import PreparedCase
from lib.mdal.representation.views import view_box
from lib.views.pictures.reorientation import Reorientation

_MR_SHOWN = (1.0, 99.5)  # percentiles of the slice inside the body


@dataclass(frozen=True, eq=False)
class Thumbnail:
    """One axial slice of a case in one or more modalities.

    Attributes:
        modalities: Names of the modalities.
        images: Grey values of each modality, (rows, columns), from 0 (black) to 1 (white).
        size_mm: Height and width of the slice.
        marked_mm: Left, top, width and height of the marked block; None for no mark.
    """

    modalities: tuple[str, ...]
    images: tuple[NDArray[np.float32], ...]
    size_mm: tuple[float, float]
    marked_mm: tuple[float, float, float, float] | None


def thumbnail(case: PreparedCase, modalities: Sequence[str], box: Box | None) -> Thumbnail:
    """Cut the axial slice through a box, or through the middle of the body.

    Args:
        case: Prepared case.
        modalities: Modalities to show, among those of the case.
        box: Part of the case to cut through and to mark; None for the middle of the body and no mark.
    """
    patient = Reorientation.to("LPS", case.grid)
    step = patient.spacing
    seen = patient.box(view_box(case.foreground))
    marked = None if box is None else patient.box(box)
    left, top, up = marked or seen
    level, window = (up.start + up.stop) // 2, (seen[0], seen[1])

    def layer(array: NDArray[Any]) -> NDArray[Any]:
        """The slice of an array, rows towards posterior, columns towards left, without copying the volume."""
        return np.asarray(patient.volume(array)[:, :, level][window].T)

    body = layer(case.foreground)
    slices = {name: layer(case.array[case.modalities.index(name)]) for name in modalities}
    images = [displayed(slice.astype(np.float32), body, name) for name, slice in slices.items()]
    return Thumbnail(
        tuple(modalities),
        tuple(images),
        ((seen[1].stop - seen[1].start) * step[1], (seen[0].stop - seen[0].start) * step[0]),
        None
        if marked is None
        else (
            (left.start - seen[0].start) * step[0],
            (top.start - seen[1].start) * step[1],
            (left.stop - left.start) * step[0],
            (top.stop - top.start) * step[1],
        ),
    )


def displayed(image: NDArray[np.float32], body: NDArray[np.bool_], modality: str) -> NDArray[np.float32]:
    """A slice as radiologists view it: CT and MR in grey, PET from white to black at its ceiling.

    Args:
        image: Prepared values, (rows, columns).
        body: Body mask, (rows, columns).
        modality: Name of the modality.

    Returns:
        Grey values, (rows, columns), from 0 (black) to 1 (white).
    """
    match kind(modality):
        case "CT":
            grey = (image + 1.0) / 2.0
        case "PET":
            grey = 1.0 - image
        case _:
            low, high = np.percentile(image[body] if body.any() else image, _MR_SHOWN)
            grey = np.where(body | ~body.any(), (image - low) / max(float(high - low), 1e-6), 0.0)
    return np.asarray(np.clip(grey, 0.0, 1.0), dtype=np.float32)
