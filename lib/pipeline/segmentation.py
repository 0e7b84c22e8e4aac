"""A site's cases segmented by its current model: once for each case, then from disk."""

from __future__ import annotations

import hashlib
import json
import logging
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lib.cases.case import Case
from lib.cases.formats.image import Grid
from lib.ciml.checkpoint import load
from lib.ciml.inference.predict import infer
from lib.ciml.network.ciml_network import CimlNetwork
from lib.ciml.network.tuning import lay_out
from lib.pipeline.disk import disk_bytes
from lib.pipeline.segmentation_cache import Segmentation, SegmentationCache
from lib.pipeline.workspace import Workspace
from lib.runtime.devices import device_of
from lib.runtime.errors import UserError

logger = logging.getLogger(__name__)
SEGMENTATION_VERSION = 1  # raise when a segmentation of the same case by the same model changes


class ModelMismatch(UserError):
    """A model that was trained for another pool."""


@dataclass(frozen=True)
class Published:
    """The model that answers now.

    Attributes:
        file: Its checkpoint.
        key: Hash of what the file holds and of the labels that the site expects.
    """

    file: Path
    key: str


@dataclass(frozen=True, eq=False)
class Segmented:
    """A segmentation and what it took to get it.

    Attributes:
        segmentation: The model's answer.
        seconds: By stage: `read` the files or the cache, `pre` the box made ready, `infer`, `post` what is
            kept and painted.
        cached: Whether it had been made before.
    """

    segmentation: Segmentation
    seconds: dict[str, float]
    cached: bool

    def label_on(self, grid: Grid) -> NDArray[np.uint8]:
        """Label map (D, H, W) on a grid; its time counts as `post`."""
        start = time.monotonic()
        label = self.segmentation.label_on(grid)
        self.seconds["post"] += time.monotonic() - start
        return label

    def volumes_ml(self, label: NDArray[np.uint8], grid: Grid) -> dict[str, dict[str, float]]:
        """Volume in ml of each label and of each region on a grid."""
        table = self.segmentation.decomposition
        counts = np.bincount(label.ravel(), minlength=256) * grid.voxel_ml
        return {
            "volumes_ml": {name: float(counts[value]) for name, value in table.labels.items()},
            "region_volumes_ml": {
                region.name: float(counts[list(region.labels)].sum()) for region in table.regions
            },
        }

    @property
    def about(self) -> dict[str, Any]:
        """What is told with the answer: version, modalities used, uncertainty, contributions, fallback."""
        about = dict(self.segmentation.about)
        return {**about, "cached": self.cached, "prefetched": self.cached and about["prefetched"]}


class Segmenter:
    """Segments cases by the site's current model; its weights are loaded once, and again when they change."""

    def __init__(self, workspace: Workspace) -> None:
        """Nothing is loaded yet; `device` may be set to another than the site's."""
        self.workspace, self.device = workspace, device_of(workspace.settings.device)
        self._working = threading.Lock()  # one case at a time: two would need twice the memory
        self._known: tuple[tuple[Path, int, int], Published] | None = None
        self._loaded: tuple[Published, CimlNetwork, dict[str, Any]] | None = None

    @cached_property
    def cache(self) -> SegmentationCache:
        """What was segmented before."""
        return SegmentationCache(
            self.workspace.folders.work / "segmentations",
            max_bytes=disk_bytes(self.workspace.settings, "segmentations"),
        )

    def published(self) -> Published | None:
        """The model that answers now; None before the first training."""
        file = self.workspace.models.current()
        if file is None:
            return None
        stat = file.stat()
        stamp = (file, stat.st_ino, stat.st_mtime_ns)
        if self._known is None or self._known[0] != stamp:
            with file.open("rb") as stream:
                digest = hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=16))
            expected = [
                SEGMENTATION_VERSION,
                self.workspace.preparation.modalities,
                self.workspace.decomposition.to_dict(),
            ]
            digest.update(json.dumps(expected).encode())
            self._known = (stamp, Published(file, digest.hexdigest()))
        return self._known[1]

    def serve(self, version: int) -> None:
        """Let a version of the model answer from now on, in every process of the site; 0: the newest.

        Raises:
            UserError: If there is no such version.
            ModelMismatch: If it was trained for other modalities or labels.
        """
        workspace = self.workspace
        try:
            if version:
                self._check_fits(load(workspace.models.file(version))[0])
            workspace.models.choose(version)
        except UserError:
            raise
        except ValueError as err:
            raise UserError(str(err)) from err
        logger.info("version %s answers from now on: it was chosen", version or "that is newest")

    def take(self, file: Path) -> int:
        """Make a checkpoint that an administrator sent the newest version; its number.

        Raises:
            UserError: If it is no checkpoint of this app.
            ModelMismatch: If it was trained for other modalities or labels.
        """
        try:
            network, about = load(file)
        except ValueError as err:
            raise UserError(
                "a model must be a checkpoint that this app wrote, whole; this file is none."
            ) from err
        self._check_fits(network)
        version = self.workspace.models.publish(network, {**about, "sent": datetime.now(UTC).isoformat()})
        logger.info("version %s of the model was sent by an administrator", version)
        return version

    def is_ready(self, case: Case) -> bool:
        """Whether the case, as it is now, was segmented by the model that answers now."""
        model = self.published()
        return model is not None and self.cache.has(model.key, case.id, self.workspace.cache.key(case))

    def segment(self, case: Case, *, prefetching: bool = False) -> Segmented | None:
        """The case as the current model sees it; None before the first training.

        Args:
            case: Of the site.
            prefetching: Nobody has asked for it yet; told with the answer when somebody does.

        Raises:
            ModelMismatch: If the model was trained for other modalities or labels.
            UserError: If a file of the case cannot be used.
        """
        start = time.monotonic()
        if (model := self.published()) is None:
            return None
        key = self.workspace.cache.key(case)
        if (kept := self.cache.get(model.key, case.id, key)) is not None:
            return _kept(kept, start)
        with self._working:
            if (kept := self.cache.get(model.key, case.id, key)) is not None:  # who was before us made it
                return _kept(kept, start)
            made = self._make(case, model, start, prefetching)
            post = time.monotonic()
            self.cache.put(model.key, case.id, key, made.segmentation)
            made.seconds["post"] += time.monotonic() - post
        return made

    def network(self) -> CimlNetwork:
        """The current model, ready for use.

        Raises:
            UserError: If there is none, or it was trained for other modalities or labels.
        """
        if (model := self.published()) is None:
            raise UserError("a model must have been trained; there is none. Label cases and train.")
        return self._load(model)[0]

    def _make(self, case: Case, model: Published, start: float, prefetching: bool) -> Segmented:
        network, metadata = self._load(model)
        prepared = self.workspace.cache.get(case)
        read = time.monotonic()
        answer = infer(network, prepared, device=self.device)
        post = time.monotonic()
        about = {
            "version": metadata["version"],
            "model": model.key,
            "modalities_used": [
                name for name, here in zip(prepared.modalities, prepared.present, strict=True) if here
            ],
            "uncertainty_nats": answer.uncertainty,
            "contributions": answer.contributions,
            "device": answer.device,
            "precision": answer.precision,
            "fallback": answer.fallback,
            "prefetched": prefetching,
        }
        segmentation = Segmentation.of(answer, prepared.grid, network.decomposition, about)
        seconds = {"read": read - start, **answer.seconds, "post": time.monotonic() - post}
        return Segmented(segmentation, seconds, cached=False)

    def _load(self, model: Published) -> tuple[CimlNetwork, dict[str, Any]]:
        if self._loaded is None or self._loaded[0] != model:
            network, metadata = load(model.file, self.device)
            self._check_fits(network)
            lay_out(network)
            self._loaded = (model, network, metadata)
            logger.info("model %s loaded", metadata["version"])
        return self._loaded[1:]

    def _check_fits(self, network: CimlNetwork) -> None:
        ours = (self.workspace.preparation.modalities, self.workspace.decomposition.labels)
        if (network.modalities, network.decomposition.labels) != ours:
            raise ModelMismatch(
                f"the model was trained on {', '.join(network.modalities)} for "
                f"{', '.join(network.decomposition.labels)}; this pool has {', '.join(ours[0])} and "
                f"{', '.join(ours[1])}. Train again."
            )


def _kept(segmentation: Segmentation, start: float) -> Segmented:
    seconds = {"read": time.monotonic() - start, "pre": 0.0, "infer": 0.0, "post": 0.0}
    return Segmented(segmentation, seconds, cached=True)
