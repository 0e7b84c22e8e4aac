"""Gliomas: their kinds, the frequency of each kind, and the voxels of a lesion.

Assumptions, listed for others to judge:

- **A long tail.** `COMMON_SHARE` of the cases are near-duplicates: each repeats one of the `PROTOTYPES` drawn
  for the pool (kind, region, size, contrast) with a small scatter, and the k-th prototype is 1/k as frequent
  as the first. The other cases are of the rare kinds, each drawn anew. Patients differ in everything else, so
  no two cases share a voxel; only the appearance to be learnt repeats.
- **Kinds.** Common: `ring` (necrosis, enhancing rim, oedema), `solid` (enhancing, oedema), `infiltrating`
  (bright on T2 and FLAIR, no enhancement). Rare: `cystic` (fluid inside, dark on FLAIR), `haemorrhagic`
  (bright on T1, dark on T2), `dense` (like grey matter on T2 and FLAIR, enhancing, no oedema), `multifocal`
  (several small enhancing foci).
- **Sizes** are log-normal: a median of `VOLUME_ML` with a heavy upper tail, as in published series.
- **Places** lie in white matter, weighted by depth, in a region given by the prototype or drawn at random.
- **Modality-unique parts.** A dial sets the share of lesions with a lobe at their border that only one
  modality shows: a nodule that enhances and is otherwise invisible (T1ce), or infiltration that only FLAIR or
  only T2 shows. The lobe belongs to the label. T1 has no such lobe, since T1ce would show it too.

The label is the whole lesion with oedema, or its regions as BraTS has them since 2023: necrotic core 1 (also
cyst and blood), oedema 2 (also infiltration), enhancing 3 (also dense tumour). There is no mass effect.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from benchmarks.gliomas.anatomy import SPACING, Array, Head, inside, places, smooth_field

COMMON_SHARE = 0.76  # share of common cases; the others are rare
PROTOTYPES = 12  # common appearances; fewer would make the task trivial, more would leave no redundancy
VOLUME_ML, VOLUME_DEVIATION = 35.0, 0.8  # median, and deviation of the logarithm
VOLUME_LIMITS_ML = (2.5, 140.0)  # below 55 voxels there is little to learn; above half a hemisphere is rare
PROTOTYPE_SCATTER = {"volume": 0.15, "place": 5.0, "contrast": 0.05}  # log, mm, share: near-duplicates
CONTRAST = (0.75, 1.15)  # range of a lesion's contrast to its surroundings; 1 gives the values of `SIGNAL`
ROUGHNESS = 0.22  # deviation of the border as a share of the radius
REGION_MM = 12.0  # distance from its region's centre over which white matter attracts a lesion
FOCI = (4, 7)
VOXEL_ML = float(np.prod(SPACING)) / 1000.0
UNIQUE_MODALITIES = ("T1ce", "T2", "FLAIR")
UNIQUE_RADIUS = (0.55, 0.8)  # lobe's radius as a share of the lesion's: a sixth to a half of its volume
UNIQUE_LEAST_MM = 9.0


@dataclass(frozen=True)
class Kind:
    """Composition of a kind of lesion.

    Attributes:
        core: Component in the middle; none when empty.
        rim: Component around the core; none when empty.
        surround: Component outside; none when empty.
        core_radius: Range of the radius of core and rim, as a share of the whole radius.
        rim_mm: Thickness of the rim in mm.
        volume: Volume of the whole lesion, as a multiple of the usual one.
    """

    core: str
    rim: str
    surround: str
    core_radius: tuple[float, float]
    rim_mm: float = 4.0
    volume: float = 1.0


COMMON: Mapping[str, Kind] = {
    "ring": Kind("necrosis", "enhancing", "oedema", (0.5, 0.7)),
    "solid": Kind("enhancing", "", "oedema", (0.4, 0.6)),
    "infiltrating": Kind("", "", "infiltration", (0.0, 0.0)),
}
RARE: Mapping[str, Kind] = {
    "cystic": Kind("cyst", "infiltration", "", (1.0, 1.0)),
    "haemorrhagic": Kind("blood", "enhancing", "oedema", (0.75, 0.9), 3.0),
    "dense": Kind("dense", "", "", (1.0, 1.0), volume=0.6),
    "multifocal": Kind("enhancing", "", "oedema", (0.6, 0.75), volume=0.5),
}
KINDS: Mapping[str, Kind] = {**COMMON, **RARE}
REGION_OF = {  # label of each component
    "necrosis": 1, "cyst": 1, "blood": 1, "oedema": 2, "infiltration": 2, "enhancing": 3, "dense": 3,
}  # fmt: skip
LOBE_REGION = {"T1ce": 3}  # of a lobe that one modality shows; 2 for the other modalities
COMMON_KINDS = {"ring": 0.5, "solid": 0.25, "infiltrating": 0.25}  # glioblastoma is the most frequent kind


@dataclass(frozen=True)
class Lesion:
    """Properties of a lesion that are drawn before any voxel.

    Attributes:
        kind: Key of `KINDS`.
        place: Region's centre as a share of the brain's half axes, D, H, W.
        volume_ml: Approximate volume of the whole lesion in ml.
        core_radius: Radius of core and rim as a share of the whole radius.
        contrast: Contrast to the tissue: 0 gives the grey values of the tissue, 1 those of `SIGNAL`.
    """

    kind: str
    place: tuple[float, float, float]
    volume_ml: float
    core_radius: float
    contrast: float


@dataclass(frozen=True, eq=False)
class Grown:
    """A lesion's voxels.

    Attributes:
        components: Share of each voxel by component, shape (D, H, W), to be laid on the tissue in this order.
        unique: Share of the lobe that one modality shows, shape (D, H, W); 0 everywhere without a lobe.
        label: Whole lesion, bool, shape (D, H, W).
        regions: Label of the region of each voxel, uint8, shape (D, H, W); 0 outside the lesion.
        unique_label: Part of the lesion that only the lobe covers, bool, shape (D, H, W).
    """

    components: Mapping[str, Array]
    unique: Array
    label: NDArray[np.bool_]
    regions: NDArray[np.uint8]
    unique_label: NDArray[np.bool_]


def draw_prototypes(rng: np.random.Generator) -> list[Lesion]:
    """Draw the common appearances of a pool, most frequent first; sizes spread over their distribution."""
    kinds = quota(COMMON_KINDS, PROTOTYPES, rng)
    levels = rng.permutation((np.arange(PROTOTYPES) + 0.5) / PROTOTYPES)
    return [draw_lesion(rng, kind, level=float(level)) for kind, level in zip(kinds, levels, strict=True)]


def draw_lesion(rng: np.random.Generator, kind: str, *, level: float | None = None) -> Lesion:
    """Draw a lesion; its size is the quantile `level` of the distribution, or a random one."""
    quantile = float(rng.uniform(0.001, 0.999)) if level is None else level
    volume = KINDS[kind].volume * VOLUME_ML * float(np.exp(VOLUME_DEVIATION * ndtri(quantile)))
    side = float(rng.choice([-1.0, 1.0]))
    place = (
        float(rng.uniform(-0.2, 0.6)),
        float(rng.uniform(-0.55, 0.6)),
        side * float(rng.uniform(0.25, 0.6)),
    )
    core = float(rng.uniform(*KINDS[kind].core_radius))
    return Lesion(kind, place, float(np.clip(volume, *VOLUME_LIMITS_ML)), core, float(rng.uniform(*CONTRAST)))


def quota(shares: Mapping[str, float], count: int, rng: np.random.Generator) -> list[str]:
    """Names in random order, each as often as its share demands, to within one.

    Args:
        shares: Share of each name; the shares sum to 1.
        count: Number of names to return.
        rng: Source of the order, and of the names that get the remainder of the rounding.
    """
    names, wanted = list(shares), count * np.array(list(shares.values()))
    numbers = np.floor(wanted + 1e-9).astype(int)
    order = rng.permutation(len(names))
    left = sorted(order, key=lambda index: -(wanted[index] - numbers[index]))[: count - int(numbers.sum())]
    numbers[left] += 1
    chosen = np.repeat(np.arange(len(names)), numbers)
    return [names[index] for index in rng.permutation(chosen)]


def near(prototype: Lesion, rng: np.random.Generator) -> Lesion:
    """Draw a near-duplicate of a prototype; `grow` draws its exact place."""
    scatter = PROTOTYPE_SCATTER
    volume = prototype.volume_ml * float(np.exp(scatter["volume"] * rng.standard_normal()))
    contrast = prototype.contrast * (1.0 + scatter["contrast"] * float(rng.standard_normal()))
    return Lesion(
        prototype.kind,
        prototype.place,
        float(np.clip(volume, *VOLUME_LIMITS_ML)),
        prototype.core_radius,
        contrast,
    )


def grow(lesion: Lesion, head: Head, rng: np.random.Generator, *, unique: str) -> Grown:
    """Grow a lesion's voxels in a head.

    Args:
        lesion: Lesion to grow.
        head: Head to grow it in.
        rng: Source of place, shape and lobe.
        unique: Modality that alone shows a lobe of the lesion; without a lobe when empty.
    """
    centre = _settle(head, np.array(lesion.place) * head.axes + head.centre, rng)
    brain = head.tissues["grey"] + head.tissues["white"]
    within = inside(head.depth)
    at, rough = places(), ROUGHNESS * smooth_field(rng, 9.0)
    kind = KINDS[lesion.kind]
    spots = _spots(lesion, head, centre, rng)
    components: dict[str, Array] = {}
    for spot, radius in spots:
        distance = _distance(at, spot)
        # oedema stays in white matter and spares the fluid; a core replaces every tissue that it meets
        outer = radius * (1.0 + rough) - distance - 4.0 * head.tissues["grey"]
        core = lesion.core_radius * radius * (1.0 + 0.5 * rough) - distance
        middle = core - kind.rim_mm * bool(kind.rim)
        for name, border, where in (
            (kind.surround, outer, brain),
            (kind.rim, core, within),
            (kind.core, middle, within),
        ):
            if name:
                share = where * inside(border)
                components[name] = np.maximum(components[name], share) if name in components else share
    plain = np.maximum.reduce([np.zeros_like(brain), *components.values()])
    lobe = np.zeros_like(brain)
    if unique:
        lobe = brain * inside(_lobe(at, spots[0], head, rng) + 3.0 * rough) * (1.0 - plain)
    label = np.maximum(plain, lobe) >= 0.5
    alone = label & (plain < 0.5)
    regions = _regions(components, label)
    regions[alone] = LOBE_REGION.get(unique, 2)
    return Grown(components, lobe, label, regions, alone)


def _regions(components: Mapping[str, Array], label: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Region of each voxel: that of the last component that covers half of it, else of the largest."""
    names = list(components)
    if not names:
        return np.zeros(label.shape, dtype=np.uint8)
    shares = np.stack(list(components.values()))
    over = shares >= 0.5
    last = len(names) - 1 - np.argmax(over[::-1], axis=0)
    chosen = np.where(over.any(axis=0), last, shares.argmax(axis=0))
    table = np.array([REGION_OF[name] for name in names], dtype=np.uint8)
    return np.where(label, table[chosen], 0).astype(np.uint8)


def _spots(
    lesion: Lesion, head: Head, centre: NDArray[np.float64], rng: np.random.Generator
) -> list[tuple[NDArray[np.float64], float]]:
    """Centre and radius in mm of each focus."""
    count = int(rng.integers(FOCI[0], FOCI[1] + 1)) if lesion.kind == "multifocal" else 1
    radius = float((3000.0 * lesion.volume_ml / count / (4.0 * np.pi)) ** (1.0 / 3.0))
    spots = [(centre, radius)]
    for _ in range(count - 1):
        wanted = centre + rng.normal(0.0, 28.0, 3)
        spots.append((_settle(head, wanted, rng), radius * float(rng.uniform(0.7, 1.2))))
    return spots


def _settle(head: Head, wanted: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw a place near the wanted one, weighted by white matter, depth and nearness."""
    at = places()
    nearness = np.exp(-0.5 * (_distance(at, wanted) / PROTOTYPE_SCATTER["place"]) ** 2)
    far = np.exp(-_distance(at, wanted) / REGION_MM)  # so that a place is found wherever one is wanted
    weight = head.tissues["white"] * np.clip(head.depth / 20.0, 0.05, 1.0) * (nearness + 1e-3 * far)
    flat = weight.ravel()
    chosen = int(rng.choice(flat.size, p=flat / flat.sum()))
    return at.reshape(3, -1)[:, chosen]


def _lobe(at: Array, spot: tuple[NDArray[np.float64], float], head: Head, rng: np.random.Generator) -> Array:
    """Signed distance in mm to a ball at the lesion's border towards the brain's centre, positive inside."""
    centre, radius = spot
    size = max(UNIQUE_LEAST_MM, radius * float(rng.uniform(*UNIQUE_RADIUS)))
    towards = head.centre - centre + rng.normal(0.0, 20.0, 3)  # towards brain, away from the skull
    middle = centre + towards / (np.linalg.norm(towards) + 1e-9) * (radius + 0.3 * size)
    return size - _distance(at, middle)


def _distance(at: Array, centre: NDArray[np.float64]) -> Array:
    offset = at - centre[:, None, None, None]
    return np.asarray(np.sqrt((offset**2).sum(axis=0)))
