"""Files of an explanation: contribution maps, a picture, the numbers."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lib.cases.case import Case
from lib.cases.formats.image import Volume, write_nifti
from lib.ciml.inference.explanation import MEASURE_UNITS, MEASURES, Explanation, Link, explain
from lib.pipeline.segmentation import Segmenter
from lib.runtime.files import replacing
from lib.views.pictures.montage import CIML_METHOD, write_montage

MONTAGE, NUMBERS, UNCERTAINTY = "montage.png", "explanation.json", "uncertainty.nii.gz"


def explain_case(segmenter: Segmenter, case: Case, folder: Path) -> list[Path]:
    """Explain a case into `folder`/CASE_explain: maps on the reference grid, a montage, the numbers.

    One of the maps is the uncertainty of each voxel.

    Args:
        segmenter: Segmenter with the model to explain.
        case: Case to explain.
        folder: Parent of the case's folder.

    Returns:
        The files written. The numbers come last: once they exist, the explanation is complete.

    Raises:
        ValueError: If there is no model, or the case cannot be read or does not fit it.
        OSError: If the folder cannot be written.
    """
    return write_explanation(segmenter, case, folder / f"{case.id}_explain")


def write_explanation(segmenter: Segmenter, case: Case, folder: Path) -> list[Path]:
    """Write the files of `explain_case` directly into `folder`."""
    segmented, prepared = segmenter.explained(case), segmenter.workspace.cache.get(case)
    about = segmented.about
    explanation = explain(segmenter.network(), prepared, device=segmenter.device)
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for measure, maps in explanation.maps.items():
        for link, values in maps.items():
            written.append(folder / map_name(link, measure))
            write_nifti(Volume(_rounded(values), prepared.grid), written[-1])
    uncertainty = segmented.segmentation.uncertainty_on(prepared.grid)
    write_nifti(Volume(_rounded(uncertainty), prepared.grid), folder / UNCERTAINTY)
    written += [folder / UNCERTAINTY, folder / MONTAGE, folder / NUMBERS]
    write_montage(
        prepared, explanation, folder / MONTAGE, sentence=about["sentence"], version=about["version"]
    )
    with replacing(folder / NUMBERS) as part:
        part.write_text(json.dumps(_numbers(case, explanation, about), indent=1, allow_nan=False))
    return written


def map_name(link: Link, measure: str) -> str:
    """File name of a map; characters of a subtask's name that a file name cannot hold become `_`."""
    sender, subtask = (re.sub(r"[^\w.+-]", "_", name) for name in link)
    return f"{sender}_to_{subtask}_{measure}.nii.gz"


def _rounded(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Round to float16's 10 fraction bits with float32's range; the compressed file is half as large."""
    fraction, exponent = np.frexp(values)
    return np.ldexp(np.round(fraction * 2048.0) / 2048.0, exponent).astype(np.float32)


def _numbers(case: Case, explanation: Explanation, about: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "case": case.id,
        "model_version": about["version"],
        "method": CIML_METHOD,
        "sentence": about["sentence"],
        "shapley": about["shapley"],
        "absent": list(explanation.absent),
        "units": {measure: MEASURE_UNITS[measure] for measure in MEASURES},
        "contributions": [
            {"sender": link[0], "subtask": link[1], "measure": measure, "value": value}
            for measure, numbers in explanation.contributions.items()
            for link, value in numbers.items()
        ],
    }
