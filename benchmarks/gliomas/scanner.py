"""Images of a head with a lesion: the contrasts of each modality, four scanners, and damaged scans.

Grey values are on a scale where the brightest normal tissue is near 1. Only their order is taken from
practice: fluid is dark on T1 and FLAIR and bright on T2; white matter is brighter than grey on T1 and darker
on T2; oedema is bright on T2 and FLAIR; tissue with an intact blood-brain barrier looks alike on T1ce and T1.

A scanner has its own scale, contrast curve, bias field, noise and resolution. Each patient moves a little
between series. Scanners are drawn independently of lesions, so a scanner says nothing about a lesion. In a
damaged scan one modality is wrong; the patient's label stays right.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from benchmarks.gliomas.anatomy import EDGE_MM, SPACING, TISSUES, Array, Head, smooth_field
from benchmarks.gliomas.lesions import Grown

MODALITIES = ("T1", "T1ce", "T2", "FLAIR")
STORED = 1000.0  # int16 value that stands for a grey value of 1
MOVED_MM = 0.7  # deviation of a patient's shift between series, along each axis
TEXTURE = 0.04  # deviation within a tissue
SIGNAL: Mapping[str, tuple[float, float, float, float]] = {  # T1, T1ce, T2, FLAIR
    "air": (0.0, 0.0, 0.0, 0.0),
    "scalp": (0.85, 0.88, 0.60, 0.50),
    "bone": (0.10, 0.10, 0.08, 0.08),
    "csf": (0.20, 0.22, 1.00, 0.12),
    "grey": (0.50, 0.53, 0.60, 0.62),
    "white": (0.68, 0.70, 0.46, 0.50),
    "hyperintensity": (0.58, 0.60, 0.72, 0.82),
    "oedema": (0.48, 0.50, 0.80, 0.86),
    "infiltration": (0.47, 0.49, 0.78, 0.84),
    "necrosis": (0.30, 0.32, 0.88, 0.42),
    "enhancing": (0.47, 1.00, 0.66, 0.72),
    "cyst": (0.22, 0.24, 0.98, 0.16),
    "blood": (0.95, 1.00, 0.28, 0.55),
    "dense": (0.48, 0.86, 0.54, 0.66),
}
ENHANCEMENT = 0.45  # added for vessels and choroid plexus on T1ce
UNIQUE_ADDED = {"T1ce": 0.32, "T2": 0.24, "FLAIR": 0.26}  # added for a lobe that only this modality shows
GHOSTS, GHOST = 4, 0.5  # copies along the phase direction, and their strength
DAMAGED_NOISE = 0.30  # deviation; sound scanners have 0.015 to 0.03
SHIFT_MM = (4.0, 15.0)  # from an error that registration may leave to one that anyone sees
DAMAGES = ("ghosting", "noise", "shifted", "other patient")


@dataclass(frozen=True)
class Scanner:
    """Effect of a scanner on every image.

    Attributes:
        share: Share of the patients who are scanned on it.
        scale: Factor of the grey values.
        curve: Exponent of the grey values of each modality; it imitates another echo time or contrast.
        bias: Deviation of the logarithm of the bias field.
        noise: Deviation of the noise, on the scale of 1.
        blur_mm: Deviation of the point spread in mm, in plane and between slices.
    """

    share: float
    scale: float
    curve: tuple[float, float, float, float]
    bias: float
    noise: float
    blur_mm: tuple[float, float]


SCANNERS: Mapping[str, Scanner] = {
    "A": Scanner(0.40, 1.0, (1.0, 1.0, 1.0, 1.0), 0.03, 0.015, (0.8, 1.2)),
    "B": Scanner(0.30, 0.4, (1.1, 1.1, 0.9, 1.1), 0.05, 0.020, (1.2, 1.2)),
    "C": Scanner(0.20, 2.5, (0.9, 0.9, 1.15, 0.9), 0.06, 0.020, (1.0, 2.2)),
    "D": Scanner(0.10, 0.15, (1.1, 1.2, 1.1, 1.2), 0.08, 0.030, (1.6, 2.2)),
}


def signals(head: Head, lesion: Grown, *, contrast: float, unique: str, rng: np.random.Generator) -> Array:
    """Signals of a head with a lesion, before the scanner.

    Args:
        head: Head of the patient.
        lesion: Voxels of the lesion.
        contrast: Contrast of the lesion's components to the tissue they replace.
        unique: Modality that shows the lesion's lobe; empty without a lobe.
        rng: Source of the texture.

    Returns:
        Signals in the order of `MODALITIES`, shape (M, D, H, W).
    """
    texture = 1.0 + TEXTURE * smooth_field(rng, EDGE_MM)
    images = np.zeros((len(MODALITIES), *texture.shape))
    for channel, modality in enumerate(MODALITIES):
        image = sum(head.tissues[name] * SIGNAL[name][channel] for name in TISSUES) * texture
        image = _laid_on(image, head.hyperintensity, SIGNAL["hyperintensity"][channel])
        if modality == "T1ce":
            image = image + ENHANCEMENT * head.enhancing
        for name, share in lesion.components.items():
            image = _laid_on(image, contrast * share, SIGNAL[name][channel] * texture)
        if modality == unique:
            image = image + UNIQUE_ADDED[modality] * lesion.unique
        images[channel] = image
    return images


def scan(images: Array, scanner: Scanner, rng: np.random.Generator) -> Array:
    """Images as a scanner makes them, shape (M, D, H, W).

    Args:
        images: Signals, shape (M, D, H, W).
        scanner: Scanner that makes the images.
        rng: Source of movement, bias and noise.
    """
    scanned = np.empty_like(images)
    through, plane = scanner.blur_mm[1], scanner.blur_mm[0]
    for channel, image in enumerate(images):
        seen = np.clip(image, 0.0, None) ** scanner.curve[channel]
        seen = moved(seen, rng.normal(0.0, MOVED_MM, 3)) if channel else seen
        seen = ndimage.gaussian_filter(seen, np.array([through, plane, plane]) / SPACING)
        seen = seen * np.exp(scanner.bias * smooth_field(rng, 40.0))
        scanned[channel] = scanner.scale * noisy(seen, scanner.noise, rng)
    return scanned


def damage(kind: str, image: Array, other: Array, rng: np.random.Generator) -> Array:
    """A damaged version of one image of a patient.

    Args:
        kind: One of `DAMAGES`.
        image: Image as scanned, shape (D, H, W).
        other: Image of the same modality of another patient, as scanned.
        rng: Source of the damage.

    Raises:
        ValueError: If there is no such damage.
    """
    top = float(np.percentile(image, 99))
    match kind:
        case "ghosting":
            step = image.shape[1] // GHOSTS
            ghosts = sum((-1.0) ** copy * np.roll(image, copy * step, axis=1) for copy in range(1, GHOSTS))
            return np.abs(image + GHOST * ghosts)
        case "noise":
            return noisy(image, DAMAGED_NOISE * top, rng)
        case "shifted":
            direction = rng.standard_normal(3) * (0.3, 1.0, 1.0)
            return moved(image, rng.uniform(*SHIFT_MM) * direction / np.linalg.norm(direction))
        case "other patient":
            return other
    raise ValueError(f"damage must be one of {', '.join(DAMAGES)}; got {kind!r}.")


def noisy(image: Array, deviation: float, rng: np.random.Generator) -> Array:
    """Magnitude of the image with complex noise, which is Rician as in MR."""
    drawn = rng.standard_normal((2, *image.shape), dtype=np.float32)
    real, imaginary = deviation * drawn.astype(np.float64)
    return np.asarray(np.hypot(image + real, imaginary))


def moved(image: Array, by_mm: np.ndarray[tuple[int], np.dtype[np.float64]]) -> Array:
    """The image shifted along D, H, W; voxels that come in mirror the border, with the noise of the image."""
    return np.asarray(ndimage.shift(image, by_mm / SPACING, order=1, mode="reflect"))


def _laid_on(image: Array, share: Array, signal: Array | float) -> Array:
    return (1.0 - share) * image + share * signal
