"""A picture of eight patients of the generated pool in every contrast, with the lesion outlined in yellow.

The part of a lesion that only one modality shows is outlined in blue. The slice is the one with the largest
such part, or else with the largest lesion.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from benchmarks.gliomas.anatomy import SPACING
from benchmarks.gliomas.examination import make
from benchmarks.gliomas.lesions import KINDS
from benchmarks.gliomas.plan import Patient
from benchmarks.gliomas.scanner import MODALITIES
from lib.runtime.files import replacing

SHOWN = 8


def write_figure(patients: Sequence[Patient], path: Path) -> None:
    """Draw eight patients into a PNG: one of each kind, then a damaged one, then the next sound ones."""
    figure = Figure((1.75 * (len(MODALITIES) + 1) + 1.2, 1.75 * SHOWN), layout="constrained")
    rows = figure.subplots(SHOWN, len(MODALITIES) + 1, squeeze=False)
    for axes, patient in zip(rows, shown(patients), strict=False):
        made = make(patient)
        shown_most = made.unique if made.unique.any() else made.label
        slice_ = int(shown_most.sum(axis=(1, 2)).argmax())
        pictures = [*zip(MODALITIES, made.images, strict=True), ("label", made.images[-1])]
        for axis, (name, volume) in zip(axes, pictures, strict=True):
            _draw(axis, volume[slice_])
            if name == "label":
                axis.contour(made.label[slice_], levels=[0.5], colors="#ffb703", linewidths=1.2)
                if made.unique[slice_].any():
                    axis.contour(made.unique[slice_], levels=[0.5], colors="#4cc9f0", linewidths=1.2)
            axis.set_title(f"{name}, damaged" if name == patient.damaged else name, fontsize=8)
        axes[0].set_ylabel(_words(patient), fontsize=7)
    for axis in rows.ravel():
        axis.set_xticks([])
        axis.set_yticks([])
    with replacing(path) as part:
        figure.savefig(part, format="png", dpi=100, metadata={"Software": None})


def shown(patients: Sequence[Patient]) -> list[Patient]:
    """Patients of the figure: one of each kind of lesion, a damaged one, then others."""
    sound = [patient for patient in patients if not patient.damage]
    first = [next((p for p in sound if p.lesion.kind == kind), None) for kind in KINDS]
    hurt = next((patient for patient in patients if patient.damage), None)
    chosen = [patient for patient in (*first, hurt) if patient]
    return [*chosen, *(patient for patient in sound if patient not in chosen)][:SHOWN]


def _draw(axis: Axes, image: NDArray[np.int16]) -> None:
    high = float(np.percentile(image, 99.5))
    axis.imshow(image, cmap="gray", vmin=0.0, vmax=high, origin="lower", aspect=SPACING[1] / SPACING[2])


def _words(patient: Patient) -> str:
    unique = f"\nonly {patient.unique} shows a part" if patient.unique else ""
    damage = f"\n{patient.damage}" if patient.damage else ""
    return f"{patient.case}, {patient.lesion.kind}\nscanner {patient.scanner}{unique}{damage}"
