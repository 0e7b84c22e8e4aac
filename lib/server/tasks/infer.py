"""Pre-segmentation of a case, on the grid of the requested image."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from monailabel.interfaces.tasks.infer_v2 import InferTask, InferType
from numpy.typing import NDArray

from lib.cases.formats.image import WRITTEN_SUFFIXES, Grid, Volume, read_places, write_nifti, write_nrrd
from lib.pipeline.segmentation import ModelMismatch, Segmented, Segmenter
from lib.pipeline.training_data import LEAST_PATIENTS
from lib.pipeline.workspace import Workspace
from lib.runtime.temporary import new_file
from lib.server.errors import ClientError

_UNTRAINED = (
    "No model is trained yet, so this label is empty. Label {count} cases and press Train; the model then "
    "answers here."
)


class CimlInfer(InferTask):
    """Segmentation with CIML as reconstructed from its abstract."""

    def __init__(self, workspace: Workspace) -> None:
        """Answer with the workspace's current model."""
        super().__init__(
            InferType.SEGMENTATION,
            dict(workspace.decomposition.labels),
            3,
            "CIML as reconstructed from its abstract: each modality leads its subtask, the others complement",
        )
        self.workspace, self.segmenter = workspace, Segmenter(workspace)

    def is_valid(self) -> bool:
        """Always valid: before the first training the answer is an empty label and a message that says so."""
        return True

    def get_path(self, validate: bool = True) -> str | None:
        """File of the published model."""
        published = self.segmenter.published()
        return str(published.file) if published else None

    def __call__(self, request: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        """Label file on the grid of the requested image, and the facts that clients show with it.

        A client that names a series by its UID has the slices themselves, as OHIF does. Where they are
        tilted, an NRRD for it lies on the slices; every other label lies on the straight grid that the
        server shows.

        Args:
            request: Request with `case` and `modality` as the app resolved them, and with `image`,
                `result_extension` and `result_compress` as OHIF sends them. The label is always uint8.
        """
        start = time.monotonic()
        case, modality = request["case"], request["modality"]
        suffix = request.get("result_extension") or ".nii.gz"
        if suffix not in WRITTEN_SUFFIXES:
            raise ClientError(
                f"result_extension must be one of {', '.join(WRITTEN_SUFFIXES)}; got {str(suffix)[:40]!r}."
            )
        try:
            segmented = self.segmenter.segment(case)
        except ModelMismatch as err:
            raise ClientError(str(err), status=409) from err
        source = case.modalities[modality]
        places = read_places(source)
        grid = places.grid
        label, about = self._empty_label(grid) if segmented is None else _segmented_label(segmented, grid)
        writing = time.monotonic()
        with new_file(f"{case.id}_{modality}_", suffix) as path:
            if suffix == ".nrrd":
                compress = bool(request.get("result_compress", True))
                has_slices = request.get("image") == source.series
                array, affine = (
                    (places.on_slices(label), places.affine) if has_slices else (label, grid.affine)
                )
                write_nrrd(array, affine, path, compress=compress)
            else:
                write_nifti(Volume(label, grid), path, durable=False)
        end = time.monotonic()
        seconds = {**about.pop("seconds"), "write": end - writing, "total": end - start}
        return str(path), {
            "label_names": dict(self.workspace.decomposition.labels),
            "case": case.id,
            "modality": modality,
            **about,
            "latencies": {stage: round(value, 3) for stage, value in seconds.items()},
        }

    def _empty_label(self, grid: Grid) -> tuple[NDArray[np.uint8], dict[str, Any]]:
        message = _UNTRAINED.format(count=LEAST_PATIENTS)
        return np.zeros(grid.shape, dtype=np.uint8), {
            "volumes_ml": dict.fromkeys(self.workspace.decomposition.labels, 0.0),
            "ciml": {"state": "untrained", "message": message},
            "seconds": {},
        }


def _segmented_label(segmented: Segmented, grid: Grid) -> tuple[NDArray[np.uint8], dict[str, Any]]:
    label = segmented.label_on(grid)
    about = {
        **segmented.volumes_ml(label, grid),
        "ciml": {"state": "trained", **segmented.about},
        "seconds": segmented.seconds,
    }
    return label, about
