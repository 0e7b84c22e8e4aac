"""Pre-segmentation of a case, on the grid of the image that was asked for."""

from __future__ import annotations

import logging
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from monailabel.interfaces.tasks.infer_v2 import InferTask, InferType
from numpy.typing import NDArray

from lib.cases.case import Case
from lib.cases.image import FILE_SUFFIXES, Grid, Volume, read_grid, resample, write_nifti, write_nrrd
from lib.ciml.checkpoint import load
from lib.ciml.inference import predict
from lib.ciml.network import CimlNetwork
from lib.compute import device_of
from lib.refusal import Refusal
from lib.site import Site

logger = logging.getLogger(__name__)
_UNTRAINED = (
    "No model is trained yet, so this label is empty. Label {count} cases and press Train; the model then "
    "answers here."
)


class CimlInfer(InferTask):
    """CIML as reconstructed from its abstract."""

    def __init__(self, site: Site, model_file: Path) -> None:
        """Answer with the model published at `model_file`."""
        super().__init__(
            InferType.SEGMENTATION,
            dict(site.decomposition.labels),
            3,
            "CIML as reconstructed from its abstract: each modality leads its subtask, the others complement",
        )
        self.site, self.model_file = site, model_file
        self._loaded: tuple[tuple[int, int], CimlNetwork, dict[str, Any]] | None = None
        self._loading = threading.Lock()

    def is_valid(self) -> bool:
        """Listed from the start: before the first training it answers with an empty label that says so."""
        return True

    def get_path(self, validate: bool = True) -> str | None:
        """File of the published model."""
        return str(self.model_file) if self.model_file.exists() or not validate else None

    def __call__(self, request: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        """Label file on the asked grid, and what clients show with it.

        Args:
            request: `case` and `modality` as the app resolved them; `result_extension` and
                `result_compress` as OHIF sends them. The label is uint8 whatever else is asked.
        """
        case, modality, suffix = (
            request["case"],
            request["modality"],
            request.get("result_extension") or ".nii.gz",
        )
        if suffix not in FILE_SUFFIXES:
            raise Refusal(
                f"result_extension must be one of {', '.join(FILE_SUFFIXES)}; got {str(suffix)[:40]!r}."
            )
        start = time.monotonic()
        grid = read_grid(case.modalities[modality])
        label, about = self._segment(case, grid)
        with tempfile.NamedTemporaryFile(
            prefix=f"{case.id}_{modality}_", suffix=suffix, delete=False
        ) as file:
            path = Path(file.name)
        if suffix == ".nrrd":
            write_nrrd(Volume(label, grid), path, compress=bool(request.get("result_compress", True)))
        else:
            write_nifti(Volume(label, grid), path)
        about["latencies"] |= {"total": round(time.monotonic() - start, 3)}
        volumes = {
            name: float((label == value).sum() * grid.voxel_ml)
            for name, value in self.site.decomposition.labels.items()
        }
        return str(path), {
            "label_names": dict(self.site.decomposition.labels),
            "case": case.id,
            "modality": modality,
            "volumes_ml": volumes,
            **about,
        }

    def _segment(self, case: Case, grid: Grid) -> tuple[NDArray[np.uint8], dict[str, Any]]:
        model = self._model()
        if model is None:
            message = _UNTRAINED.format(count=self.site.settings.minimum_labels)
            return np.zeros(grid.shape, dtype=np.uint8), {
                "ciml": {"state": "untrained", "message": message},
                "latencies": {},
            }
        network, metadata = model
        ours = (self.site.preparation.modalities, self.site.decomposition.labels)
        if (network.modalities, network.decomposition.labels) != ours:
            raise Refusal(
                f"the model was trained on {', '.join(network.modalities)} for "
                f"{', '.join(network.decomposition.labels)}; this pool has {', '.join(ours[0])} and "
                f"{', '.join(ours[1])}. Train again.",
                status=409,
            )
        start = time.monotonic()
        prepared = self.site.cache.get(case)
        read = time.monotonic()
        probabilities = predict(network, prepared, device=device_of(self.site.settings.device))
        inferred = time.monotonic()
        moved = np.stack([resample(Volume(region, prepared.grid), grid).array for region in probabilities])
        label = network.decomposition.labels_of(moved)
        return label, {
            "ciml": {
                "state": "trained",
                "version": metadata["version"],
                "modalities_used": [
                    name for name, here in zip(prepared.modalities, prepared.present, strict=True) if here
                ],
            },
            "latencies": {
                "pre": round(read - start, 3),
                "infer": round(inferred - read, 3),
                "post": round(time.monotonic() - inferred, 3),
            },
        }

    def _model(self) -> tuple[CimlNetwork, dict[str, Any]] | None:
        """The published model; loaded again when another was published."""
        try:
            stat = self.model_file.stat()
        except FileNotFoundError:
            return None
        stamp = (stat.st_ino, stat.st_mtime_ns)
        with self._loading:
            if self._loaded is None or self._loaded[0] != stamp:
                network, metadata = load(self.model_file, device_of(self.site.settings.device))
                self._loaded = (stamp, network, metadata)
                logger.info("model %s loaded", metadata["version"])
            return self._loaded[1:]
