"""Copies of a case with one modality damaged on purpose."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lib.cases.case import Case
from lib.cases.formats.image import Grid, Volume, read_volume, resample, write_nifti
from lib.cases.modalities import kind

SHIFT_MM = 15.0
KINDS = (
    "NaN", "zero", "constant", "truncated file", "shift in header", "shift of voxels", "mirrored left-right",
    "other patient, file", "other patient, regridded", "voxel size in header",
    "ends early", "ends early, padded",
)  # fmt: skip


@dataclass(frozen=True)
class Copy:
    """A case with one damaged modality."""

    case: Case
    modality: str
    kind: str
    detail: str


def damaged(
    kind_: str, case: Case, modality: str, donor: Case, rng: np.random.Generator, folder: Path
) -> Copy:
    """Write a damaged volume into `folder`; the original is not changed."""
    source = case.modalities[modality]
    path = folder / f"{case.id}_{modality}.nii.gz"
    if kind_ == "truncated file":
        content, part = source.path.read_bytes(), rng.uniform(0.2, 0.95)
        path = path.with_suffix("").with_suffix("".join(source.path.suffixes[-2:]))
        path.write_bytes(content[: int(part * len(content))])
        detail = f"{part:.0%} kept"
    else:
        volume, detail = _damage(kind_, read_volume(source), donor, modality, rng)
        stored = volume.array / np.float32(source.scale)
        if np.isfinite(stored).all():
            stored = np.rint(stored).astype(np.int16)
        write_nifti(Volume(stored, volume.grid), path)
    return Copy(replace(case, modalities={**case.modalities, modality: replace(source, path=path)}),
                modality, kind_, detail)  # fmt: skip


def _damage(
    kind_: str, volume: Volume, donor: Case, modality: str, rng: np.random.Generator
) -> tuple[Volume, str]:
    array, grid = volume.array.copy(), volume.grid
    axis, sign = int(rng.integers(3)), int(rng.choice([-1, 1]))
    match kind_:
        case "NaN":
            part = float(rng.choice([0.01, 1.0]))
            array[rng.random(array.shape) < part] = np.nan
            return Volume(array, grid), f"{part:.0%} of voxels"
        case "zero" | "constant":
            value = 0.0 if kind_ == "zero" else float(rng.integers(1, 300))
            return Volume(np.full_like(array, value), grid), f"{value:g}"
        case "shift of voxels":
            steps = sign * round(SHIFT_MM / grid.spacing[axis])
            return Volume(np.roll(array, steps, axis), grid), f"{steps} voxels along {'DHW'[axis]}"
        case "shift in header":
            affine = grid.affine.copy()
            affine[:3, 3] += sign * SHIFT_MM * affine[:3, 2 - axis] / grid.spacing[axis]
            return Volume(array, Grid(grid.shape, affine)), f"{sign * SHIFT_MM:+.0f} mm along {'DHW'[axis]}"
        case "mirrored left-right":
            side = 2 - int(np.abs(grid.affine[0, :3]).argmax())
            return Volume(np.ascontiguousarray(np.flip(array, side)), grid), "DHW"[side]
        case "voxel size in header":
            factor, axes = (
                float(rng.choice([0.5, 0.75, 4 / 3, 2.0])),
                [[0, 1, 2], [axis]][int(rng.integers(2))],
            )
            affine = grid.affine.copy()
            affine[:3, [2 - k for k in axes]] *= factor
            return Volume(
                array, Grid(grid.shape, affine)
            ), f"x {factor:.2f} along {''.join('DHW'[k] for k in axes)}"
        case "ends early" | "ends early, padded":
            axis = 2 - int(np.abs(grid.affine[2, :3]).argmax())  # along the body
            part = float(rng.uniform(0.25, 0.5))
            detail = f"{part:.0%} of the grid along {'DHW'[axis]}"
            return _ending_early(volume, axis, part, sign, padded=kind_.endswith("padded")), detail
    other = read_volume(donor.modalities[modality])
    return (other if kind_ == "other patient, file" else _centred(other, grid)), donor.id


def _ending_early(volume: Volume, axis: int, part: float, sign: int, *, padded: bool) -> Volume:
    """A volume that lacks one end of an axis: its grid ends there, or it is padded with its minimum."""
    grid = volume.grid
    lost = round(part * grid.shape[axis])
    kept = slice(0, grid.shape[axis] - lost) if sign > 0 else slice(lost, None)
    inside = tuple(kept if k == axis else slice(None) for k in range(3))
    if padded:
        array = np.full_like(volume.array, volume.array.min())
        array[inside] = volume.array[inside]
        return Volume(array, grid)
    affine = grid.affine.copy()
    affine[:3, 3] += affine[:3, 2 - axis] * (kept.start or 0)
    array = np.ascontiguousarray(volume.array[inside])
    depth, height, width = array.shape
    return Volume(array, Grid((depth, height, width), affine))


def _centred(volume: Volume, grid: Grid) -> Volume:
    """Another patient's volume resampled to this grid, with the two centres aligned."""
    affine = volume.grid.affine.copy()
    affine[:3, 3] += _centre(grid) - _centre(volume.grid)
    return resample(Volume(volume.array, Grid(volume.grid.shape, affine)), grid)


def _centre(grid: Grid) -> NDArray[np.float64]:
    index = (np.array(grid.shape[::-1]) - 1) / 2
    return np.asarray((grid.affine @ [*index, 1.0])[:3])


def copies(cases: list[Case], count: int, rng: np.random.Generator, folder: Path) -> Iterator[Copy]:
    """Damaged copies, `count` of every kind, of patients and modalities drawn at random.

    For damage by another patient's volume the modality is PET, where both patients have one.
    """
    for kind_ in KINDS:
        for index in rng.permutation(len(cases))[:count]:
            case = cases[int(index)]
            donor = cases[int((index + rng.integers(1, len(cases))) % len(cases))]
            names = sorted(name for name in case.modalities if name in donor.modalities)
            if kind_.startswith("other"):
                names = [name for name in names if kind(name) == "PET"] or names
            yield damaged(kind_, case, str(rng.choice(names)), donor, rng, folder)
