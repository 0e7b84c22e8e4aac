"""Random patches of labelled cases; each position is drawn first, then only the patch is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from lib.cases.formats.voxels import IGNORED
from lib.cases.preprocessing import PreparedCase
from lib.ciml.decomposition.table import Decomposition

POSITIONS_PER_LABEL = 20_000  # voxels of a label that are kept as possible centres


@dataclass(frozen=True, eq=False)
class TrainingCase:
    """Prepared case and its label on the same grid.

    Attributes:
        prepared: Prepared case with memory-mapped images.
        label: Label map, shape (D, H, W), uint8; 0 is background, `IGNORED` where nobody annotated.
    """

    prepared: PreparedCase
    label: NDArray[np.uint8]

    def __post_init__(self) -> None:
        """Refuse a label on another grid than its images, and a case without modalities."""
        if self.label.shape != self.prepared.array.shape[1:] or self.label.dtype != np.uint8:
            raise ValueError(
                f"the label of {self.prepared.id} must be uint8 {self.prepared.array.shape[1:]}; got "
                f"{self.label.dtype} {self.label.shape}. Resample it to the case's grid."
            )
        if not self.prepared.present.any():
            raise ValueError(f"case {self.prepared.id} must have at least one modality; got none.")


@dataclass(frozen=True, eq=False)
class Patch:
    """Patch of a case; zero outside the case.

    Attributes:
        image: Images of the modalities, shape (M, D, H, W), float32.
        label: Label map, shape (D, H, W), uint8.
        present: Modalities that the case has, shape (M,), bool.
    """

    image: NDArray[np.float32]
    label: NDArray[np.uint8]
    present: NDArray[np.bool_]


class PatchSampler:
    """Sampler of random patches, some of them around a labelled voxel.

    Cases are drawn uniformly. The labels of a case are also drawn uniformly, so a small structure is sampled
    as often as a large one.
    """

    def __init__(
        self,
        cases: Sequence[TrainingCase],
        *,
        roi_size: tuple[int, int, int],
        foreground_share: float,
        generator: Generator,
    ) -> None:
        """Find the voxels of each label.

        Args:
            cases: Training cases, at least one.
            roi_size: Patch size (D, H, W) in voxels.
            foreground_share: Probability that a patch is centred near a labelled voxel.
            generator: Generator that chooses the voxels of a large label to keep as centres.
        """
        self.cases, self.roi_size, self.foreground_share = cases, np.array(roi_size), foreground_share
        self._positions = [_positions_of(case.label, generator) for case in cases]

    def draw(self, generator: Generator) -> Patch:
        """Draw a random patch of a random case and read it from the memory map."""
        number = int(generator.integers(len(self.cases)))
        case, positions = self.cases[number], self._positions[number]
        if positions and generator.random() < self.foreground_share:
            centre = self._near(positions[int(generator.integers(len(positions)))], generator)
        else:
            centre = self._anywhere(case, generator)
        return read_patch(case, centre - self.roi_size // 2, tuple(self.roi_size))

    def _near(self, positions: NDArray[np.int64], generator: Generator) -> NDArray[np.int64]:
        """Random centre within a quarter patch of a labelled voxel."""
        reach = self.roi_size // 4
        shift = generator.integers(-reach, reach + 1)
        return np.asarray(positions[int(generator.integers(len(positions)))] + shift)

    def _anywhere(self, case: TrainingCase, generator: Generator) -> NDArray[np.int64]:
        """Random centre whose patch lies inside the case along each axis on which it fits."""
        shape = np.array(case.label.shape)
        low = np.minimum(self.roi_size // 2, shape // 2)
        return np.asarray(generator.integers(low, np.maximum(shape - self.roi_size // 2, low + 1)))


def _positions_of(label: NDArray[np.uint8], generator: Generator) -> list[NDArray[np.int64]]:
    """Voxels of each label in the case, shape (P, 3) each."""
    found = []
    for value in np.setdiff1d(label, (0, IGNORED)):
        flat = np.flatnonzero(label == value)
        if len(flat) > POSITIONS_PER_LABEL:
            flat = generator.choice(flat, POSITIONS_PER_LABEL, replace=False)
        found.append(np.stack(np.unravel_index(flat, label.shape), axis=1))
    return found


def read_patch(case: TrainingCase, start: NDArray[np.int64], size: tuple[int, ...]) -> Patch:
    """Read a patch of a case, moved inside the case where it fits and padded with zeros elsewhere.

    Args:
        case: Case to read from.
        start: First voxel, shape (3,); may be outside the case.
        size: Patch size (D, H, W).
    """
    shape = np.array(case.label.shape)
    fitting = np.clip(start, 0, np.maximum(shape - size, 0))
    box = tuple(slice(int(first), int(first) + extent) for first, extent in zip(fitting, size, strict=True))
    label = case.label[box]
    padding = [(0, extent - got) for extent, got in zip(size, label.shape, strict=True)]
    image = np.asarray(case.prepared.array[(slice(None), *box)], dtype=np.float32)
    return Patch(np.pad(image, [(0, 0), *padding]), np.pad(label, padding), np.array(case.prepared.present))


def targets_of(label: NDArray[np.uint8], decomposition: Decomposition) -> NDArray[np.uint8]:
    """Masks of the regions, shape (R, D, H, W), 0 or 1, and `IGNORED` in voxels that nobody annotated."""
    return np.where(label == IGNORED, np.uint8(IGNORED), decomposition.regions_of(label))


def augment_patch(patch: Patch, *, jitter: float, generator: Generator) -> Patch:
    """Flip along random axes; scale and shift each modality by normal noise of deviation `jitter`."""
    axes = [axis for axis in (1, 2, 3) if generator.random() < 0.5]
    scale = 1.0 + jitter * generator.standard_normal((len(patch.image), 1, 1, 1))
    shift = jitter * generator.standard_normal((len(patch.image), 1, 1, 1))
    image = (np.flip(patch.image, axes) * scale + shift).astype(np.float32)
    return Patch(image, np.flip(patch.label, [axis - 1 for axis in axes]), patch.present)


def drop_modalities(
    present: NDArray[np.bool_], *, probability: float, generator: Generator
) -> NDArray[np.bool_]:
    """Drop each modality of a patch with `probability`, but always keep at least one.

    Args:
        present: Modalities that the case has, shape (M,), bool.
        probability: Probability of dropping a modality; 0 keeps all.
        generator: Generator of the random draws.

    Returns:
        Modalities that the patch keeps, shape (M,), bool.
    """
    kept = present & (generator.random(len(present)) >= probability)
    if not kept.any():
        kept[generator.choice(np.flatnonzero(present))] = True
    return np.asarray(kept)
