"""Measurements of one case for the pool check: read once, compared on a coarse grid, stored as JSON."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from itertools import combinations
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from lib.cases.body import body_mask
from lib.cases.case import Case, Source
from lib.cases.dicomweb.client import PacsError
from lib.cases.formats.image import Grid, Volume, read_places, read_volume, resample
from lib.cases.modalities import kind
from lib.cases.preprocessing import Preparation
from lib.cases.quality.alignment import alignment, grey_levels
from lib.cases.quality.coverage import covered, without_padding
from lib.cases.quality.label_facts import Compared, label_facts
from lib.cases.quality.plausibility import doubts
from lib.cases.unexpected_errors import as_case_error
from lib.runtime.errors import UserError

MEASURE_VERSION = 6  # raise when a measurement changes its meaning
COARSE_MM = 4.0  # half of the smallest displacement that matters
_MIN_EXTENT_MM, _MIN_VOXELS = 40.0, 8  # along every axis, to align two images


def measure(case: Case, preparation: Preparation) -> dict[str, Any]:
    """Geometry, grey values and mutual alignment of a case's modalities; JSON-serialisable.

    Args:
        case: Case to measure. If a file cannot be read, its facts are an `error` with the reason.
        preparation: Settings with the reference, whose coarsened grid is used for the comparison.

    Returns:
        `modalities`: name -> facts of one volume; `pairs`: facts of every two modalities with an image;
        `label`: facts of the label beside the images, if there is one.
    """
    try:
        with as_case_error(f"case {case.id}"):
            return _measure(case, preparation)
    except UserError as err:
        return unmeasured(case, str(err))


def unmeasured(case: Case, reason: str) -> dict[str, Any]:
    """Measurements of a case that could not be measured at all."""
    return {"modalities": {name: {"error": reason} for name in case.modalities}, "pairs": []}


def _measure(case: Case, preparation: Preparation) -> dict[str, Any]:
    facts: dict[str, dict[str, Any]] = {}
    coarse: dict[str, Volume] = {}
    grids: dict[str, Grid] = {}
    reference = preparation.reference_of(case)
    for name in sorted(case.modalities, key=lambda name: name != reference):
        path = case.modalities[name].path
        try:
            with as_case_error(str(path)):
                volume = read_volume(case.modalities[name], max_voxels=preparation.max_voxels)
                facts[name] = volume_facts(volume)
                facts[name] |= unit_facts(volume, kind(name))
                facts[name]["tilt"] = read_places(case.modalities[name]).tilt
        except UserError as err:
            small = f"{path} must fit in memory; it does not. Resample it."
            facts[name] = {
                "error": small if isinstance(err.__cause__, MemoryError) else str(err),
                "unfetched": isinstance(err, PacsError),  # a later fetch may succeed
            }
            continue
        grids[name] = volume.grid
        has_image = facts[name]["finite"] == 1.0 and facts[name]["std"] > 0.0
        if has_image and not any(doubts(name, facts[name])):
            coarse[name] = coarsen(volume)
    if not coarse:
        return {"modalities": facts, "pairs": []}
    coarse = {name: coarse[name] for name in sorted(coarse)}  # so that a pair has one name in the whole pool
    compared_on = reference if reference in coarse else next(name for name in facts if name in coarse)
    grid = coarse[compared_on].grid
    placed, bodies = _on_grid(coarse, grid)
    for name, body in bodies.items():
        facts[name]["body_ml"] = float(body.sum() * grid.voxel_ml)
        facts[name] |= covered(name, placed, bodies, grid)
    widest = max((volume.grid for volume in coarse.values()), key=_field_ml)
    if _field_ml(widest) > _field_ml(grid):  # beyond its own grid nothing is seen of what the reference lacks
        facts[compared_on] |= covered(compared_on, *_on_grid(coarse, widest), widest)
    measured = {"modalities": facts, "pairs": _compare(placed, bodies, grid)}
    if case.label is not None and reference in grids:
        measured["label"] = label_facts(
            Source(case.label),
            case.ignored,
            grids,
            Compared(grid, placed, bodies),
            reference=reference,
            max_voxels=preparation.max_voxels,
        )
    return measured


def volume_facts(volume: Volume) -> dict[str, Any]:
    """Geometry and grey values of one volume; `voxels` is a hash that identifies it in other cases."""
    array, grid = volume.array, volume.grid
    finite = np.isfinite(array)
    whole = bool(finite.all())
    values = array if whole else array[finite]
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)
    with np.errstate(over="ignore"):  # a voxel of 1e38 overflows
        deviation = float(values.std()) if high > low else 0.0
    return {
        "shape": list(grid.shape),
        "spacing": list(grid.spacing),
        "affine": grid.affine.tolist(),
        "axes": "".join(nib.orientations.aff2axcodes(grid.affine)),
        "finite": 1.0 if whole else float(finite.mean()),
        "min": low,
        "max": high,
        "std": deviation,
        "zero": float((values == 0).mean()) if values.size else 0.0,
        "voxels": hashlib.blake2b(array.tobytes(), digest_size=16).hexdigest(),
    }


def unit_facts(volume: Volume, kind: str) -> dict[str, float]:
    """What the values of a CT or a PET say of their unit; nothing for an MR or without an image.

    Returns:
        Of a CT the share of voxels in ranges of HU: `air` below -300; `tissue` from -200 to 200; `raised`
        from 824 to 1,224, where soft tissue lies if air is stored as 0. Of a PET `bright`, the value that
        one voxel of a thousand exceeds.
    """
    values = volume.array[np.isfinite(volume.array)]
    if kind == "MR" or not values.size or values.min() == values.max():
        return {}
    if kind == "PET":
        return {"bright": float(np.percentile(values, 99.9))}
    return {
        "air": float((values < -300).mean()),
        "tissue": float(((values >= -200) & (values <= 200)).mean()),
        "raised": float(((values >= 824) & (values <= 1224)).mean()),
    }


def coarsen(volume: Volume) -> Volume:
    """Block means of about `COARSE_MM`, with at least 16 voxels along each axis that has as many."""
    shape = volume.grid.shape
    step = [
        max(1, min(round(COARSE_MM / size), length // 16))
        for size, length in zip(volume.grid.spacing, shape, strict=True)
    ]
    (d, h, w), (a, b, c) = (length // k for length, k in zip(shape, step, strict=True)), step
    blocks = volume.array[: d * a, : h * b, : w * c].reshape(d, a, h, b, w, c)
    affine = volume.grid.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ [(k - 1) / 2 for k in step[::-1]]
    affine[:3, :3] *= step[::-1]
    return Volume(np.asarray(blocks.mean(axis=(1, 3, 5), dtype=np.float32)), Grid((d, h, w), affine))


def _compare(
    placed: Mapping[str, NDArray[np.float32]], bodies: Mapping[str, NDArray[np.bool_]], grid: Grid
) -> list[dict[str, Any]]:
    """Overlap of the outlines and alignment of every two modalities on one grid."""
    extent = np.multiply(grid.shape, grid.spacing)
    alignable = min(grid.shape) >= _MIN_VOXELS and extent.min() >= _MIN_EXTENT_MM
    levels = {name: grey_levels(array) for name, array in placed.items()} if alignable else {}
    pairs = []
    for first, second in combinations(placed, 2):
        both = np.isfinite(placed[first]) & np.isfinite(placed[second])
        sizes = int((bodies[first] & both).sum() + (bodies[second] & both).sum())
        common = 2.0 * float((bodies[first] & bodies[second] & both).sum())
        pair: dict[str, Any] = {
            "modalities": [first, second],
            "shared": float(both.mean()),
            "dice": common / sizes if sizes else None,
        }
        if levels and both.any():
            pair |= alignment(levels[first], levels[second], grid)
        pairs.append(pair)
    return pairs


def _on_grid(
    coarse: Mapping[str, Volume], grid: Grid
) -> tuple[dict[str, NDArray[np.float32]], dict[str, NDArray[np.bool_]]]:
    """Images on one grid, NaN outside their fields of view and where they were padded, and their bodies."""
    placed = {name: resample(volume, grid, fill=np.nan).array for name, volume in coarse.items()}
    bodies = {name: _body(array, name) for name, array in placed.items()}
    placed = without_padding(placed, bodies, grid)
    return placed, {name: body & np.isfinite(placed[name]) for name, body in bodies.items()}


def _field_ml(grid: Grid) -> float:
    return float(np.prod(grid.shape) * grid.voxel_ml)


def _body(array: NDArray[np.float32], name: str) -> NDArray[np.bool_]:
    air = -1000.0 if kind(name) == "CT" else 0.0
    inside = np.isfinite(array)
    mask: NDArray[np.bool_] = body_mask(np.where(inside, array, np.float32(air)), name) & inside
    return mask
