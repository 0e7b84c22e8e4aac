"""Heads without a lesion: smooth random shapes that a reader takes for a brain, on a small grid.

A head is drawn at random, not registered to an atlas, so it belongs to no real person. It consists of an
ellipsoid brain of adult size with a wavy surface; sulci where a smooth random field is zero, down to the
depth of a sulcus; a band of grey matter along every surface; curved lateral ventricles, deep grey matter, a
fissure between the hemispheres, and a tentorium with the cerebellum below it. `age` widens ventricles and
sulci together and adds white matter hyperintensities, which are bright on FLAIR and T2 and are not part of a
lesion. Vessels and the choroid plexus enhance and are not part of a lesion either. Without such structures a
threshold would outline every lesion.

Face, orbits, brain stem nuclei and fibre directions are left out. The slab reaches from the vertex to the
upper cerebellum.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lib.cases.formats.image import Grid

Array = NDArray[np.float64]  # doubles, so that rounding to int16 gives the same image on every machine

SHAPE = (24, 64, 64)  # a patch of the app's smallest network
SPACING = (5.0, 3.0, 3.0)  # mm along D, H, W: thick slices, as in clinical 2-D series
EDGE_MM = 3.0  # tissues mix over one voxel at a border: partial volume

TISSUES = ("air", "scalp", "bone", "csf", "grey", "white")
BRAIN_MM = (68.0, 84.0, 66.0)  # half axes D, H, W of an adult's brain
CENTRE_MM = (-13.0, 0.0, 0.0)  # below the grid's centre, so that the vertex is inside
SIZE_DEVIATION = 0.03  # relative deviation of each half axis between patients
WAVES = 0.025  # deviation of the surface, as a share of the radius
WAVE_MM, FOLD_MM, CEREBELLUM_MM = 25.0, 5.5, 3.5  # widths of the random fields
LAYERS_MM = (2.0, 7.0, 6.0)  # outer cerebrospinal fluid, bone, scalp
GREY_MM = 4.5  # cortex with its partial volume; a thinner one would be invisible at 3 mm
SULCUS_DEPTH_MM = (12.0, 24.0)
SULCUS_MM = (0.2, 1.6)  # half width in the youngest and the oldest
VENTRICLE = (0.7, 1.7)  # size in the youngest and the oldest
FISSURE_FROM = 0.5  # share of the radius; below it the hemispheres are joined
TENTORIUM_MM = -36.0  # height of the tentorium; behind the brain stem the cerebellum lies below it
DEEP_GREY = (((0.0, 6.0, 22.0), (12.0, 20.0, 8.0)), ((0.0, -14.0, 11.0), (10.0, 13.0, 8.0)))  # centre, axes
HYPERINTENSITY_REACH_MM = 14.0  # distance from the ventricles
VESSELS_SHARE = 0.02  # share of the fluid around the brain


@dataclass(frozen=True, eq=False)
class Head:
    """A head without a lesion.

    Attributes:
        tissues: Share of each voxel by name of `TISSUES`, shape (D, H, W); the shares sum to 1.
        depth: Depth in mm below the brain's surface, negative outside, shape (D, H, W).
        hyperintensity: White matter damaged by age, not a lesion, 0 to 1, shape (D, H, W).
        enhancing: Vessels and choroid plexus, not a lesion, 0 to 1, shape (D, H, W).
        centre: Centre of the brain in mm, D, H, W.
        axes: Half axes of the brain in mm, D, H, W.
    """

    tissues: Mapping[str, Array]
    depth: Array
    hyperintensity: Array
    enhancing: Array
    centre: NDArray[np.float64]
    axes: NDArray[np.float64]


def grid() -> Grid:
    """The grid of every image, centred on the scanner's origin."""
    affine = np.diag([*SPACING[::-1], 1.0])
    affine[:3, 3] = [-(size - 1) / 2 * step for size, step in zip(SHAPE[::-1], SPACING[::-1], strict=True)]
    return Grid(SHAPE, affine)


def places() -> Array:
    """Offset of each voxel from the grid's centre in mm, up, forward, right, shape (3, D, H, W)."""
    axes = [(np.arange(size) - (size - 1) / 2) * step for size, step in zip(SHAPE, SPACING, strict=True)]
    return np.asarray(np.stack(np.meshgrid(*axes, indexing="ij")))


def smooth_field(rng: np.random.Generator, width_mm: float) -> Array:
    """Noise smoothed over `width_mm`, of mean 0 and deviation 1, shape (D, H, W)."""
    noise = rng.standard_normal(SHAPE, dtype=np.float32).astype(np.float64)
    field = ndimage.gaussian_filter(noise, [width_mm / step for step in SPACING], mode="wrap", truncate=3.0)
    return np.asarray((field - field.mean()) / field.std())


def inside(distance: Array) -> Array:
    """Share of each voxel within a border, from its signed distance to the border in mm, positive inside."""
    return np.clip(0.5 + distance / EDGE_MM, 0.0, 1.0)


def ellipsoid(centre: NDArray[np.float64], axes: NDArray[np.float64], at: Array) -> Array:
    """Approximate signed distance in mm to the surface of an ellipsoid, positive inside.

    Args:
        centre: Centre in mm, shape (3,).
        axes: Half axes in mm, shape (3,).
        at: Places in mm, shape (3, D, H, W).
    """
    radius = np.sqrt((((at - centre[:, None, None, None]) / axes[:, None, None, None]) ** 2).sum(axis=0))
    return np.asarray((1.0 - radius) * axes.min())


def draw_head(rng: np.random.Generator, *, age: float) -> Head:
    """Draw a new head.

    Args:
        rng: Source of the head's shape.
        age: Age from 0 (young) to 1 (old).
    """
    centre = np.array(CENTRE_MM) + rng.normal(0.0, 2.0, 3)
    axes = np.array(BRAIN_MM) * rng.normal(1.0, SIZE_DEVIATION, 3)
    at = places() - centre[:, None, None, None]
    origin = np.zeros(3)
    radius = 1.0 - ellipsoid(origin, axes, at) / axes.min() + WAVES * smooth_field(rng, WAVE_MM)
    depth = (1.0 - radius) * axes.mean()
    to_ventricle = _ventricles(at, VENTRICLE[0] + age * (VENTRICLE[1] - VENTRICLE[0]))
    fluid, cerebellum = _sulci(rng, at, depth, age)
    csf = np.maximum(inside(-fluid), inside(to_ventricle))
    grey = np.maximum(inside(GREY_MM - fluid), _deep_grey(at))
    grey = np.maximum(grey, cerebellum * inside(3.0 * smooth_field(rng, CEREBELLUM_MM)))
    brain = inside(depth)
    tissues = _shells(depth)
    tissues |= {"csf": tissues["csf"] + brain * csf, "grey": brain * (1 - csf) * grey}
    tissues["white"] = brain * (1 - csf) * (1 - grey)
    return Head(
        tissues,
        depth,
        _hyperintensity(rng, to_ventricle, tissues["white"], age),
        _enhancing(rng, at, depth, to_ventricle, tissues["csf"]),
        centre,
        axes,
    )


def _shells(depth: Array) -> dict[str, Array]:
    """Shells of fluid, bone, scalp and air around the brain."""
    shares, within = {}, inside(depth)
    border = 0.0
    for name, thickness in zip(("csf", "bone", "scalp"), LAYERS_MM, strict=True):
        border += thickness
        reached = inside(depth + border)
        shares[name] = reached - within
        within = reached
    return {**shares, "air": 1.0 - within}


def _sulci(rng: np.random.Generator, at: Array, depth: Array, age: float) -> tuple[Array, Array]:
    """Distance in mm to the fluid around and between the folds, and the cerebellum, 0 to 1."""
    field = smooth_field(rng, FOLD_MM)
    slope = np.sqrt(sum(part**2 for part in np.gradient(field, *SPACING))) + 1e-3
    bottom = np.clip(18.0 + 4.0 * smooth_field(rng, WAVE_MM), *SULCUS_DEPTH_MM)
    sheet = np.minimum(np.abs(field) / slope, 12.0) + np.maximum(depth - bottom, 0.0)
    wiggle = at[2] + 1.5 * smooth_field(rng, WAVE_MM)
    middle = FISSURE_FROM * BRAIN_MM[2] - (BRAIN_MM[2] - depth)  # depth in the joined part, negative
    fissure = np.abs(wiggle) + np.maximum(middle, 0.0)
    tentorium = np.abs(at[0] - TENTORIUM_MM - 0.3 * (at[1] + 40.0)) + np.maximum(at[1] + 20.0, 0.0)
    width = SULCUS_MM[0] + age * (SULCUS_MM[1] - SULCUS_MM[0])
    nearest = np.minimum(np.minimum(sheet, fissure), tentorium) - width
    below = inside(TENTORIUM_MM + 0.3 * (at[1] + 40.0) - at[0]) * inside(-20.0 - at[1])
    return np.minimum(nearest, depth), below


def _ventricles(at: Array, size: float) -> Array:
    """Signed distance in mm to the lateral and the third ventricle, positive inside."""
    up, forward, right = at
    along = forward / 45.0
    aside = np.abs(right) - (5.0 + 13.0 * along**2)
    height = up - (14.0 - 16.0 * along**2)
    length = np.clip(1.0 - (forward / 52.0) ** 2, 0.0, 1.0)
    wide, high = 5.0 * size, 8.0 * size
    lateral = (np.sqrt(length) - np.sqrt((aside / wide) ** 2 + (height / high) ** 2)) * wide
    third = ellipsoid(np.zeros(3), np.array([11.0, 14.0, 2.0 * size]), at)
    return np.maximum(lateral, third)


def _deep_grey(at: Array) -> Array:
    """Basal ganglia and thalami, 0 to 1."""
    folded = np.stack([at[0], at[1], np.abs(at[2])])
    parts = [inside(ellipsoid(np.array(centre), np.array(axes), folded)) for centre, axes in DEEP_GREY]
    return np.maximum(*parts)


def _hyperintensity(rng: np.random.Generator, to_ventricle: Array, white: Array, age: float) -> Array:
    """White matter hyperintensities around the ventricles, 0 to 1; they grow in number and size with age."""
    near = np.clip(1.0 + to_ventricle / HYPERINTENSITY_REACH_MM, 0.0, 1.0)
    patches = inside(4.0 * (smooth_field(rng, 5.0) + 2.0 * near + 1.2 * age - 3.5))
    return white * patches


def _enhancing(rng: np.random.Generator, at: Array, depth: Array, to_ventricle: Array, csf: Array) -> Array:
    """The sagittal sinus, the vessels in the sulci and the choroid plexus, 0 to 1."""
    sinus = inside(4.0 - np.abs(at[2])) * inside(4.0 - np.abs(depth + 2.0)) * inside(at[0])
    field = smooth_field(rng, 3.0)
    vessels = csf * (field > np.quantile(field, 1.0 - VESSELS_SHARE)) * (depth > -3.0)
    plexus = inside(to_ventricle - 1.0) * inside(8.0 - np.abs(at[1] + 26.0))
    return np.asarray(np.maximum.reduce([sinus, vessels, plexus]))
