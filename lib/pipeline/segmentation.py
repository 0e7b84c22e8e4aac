"""Segmentation of cases by the current model: computed once for each case, then read from disk."""

from __future__ import annotations

import hashlib
import json
import logging
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lib.cases.case import Case
from lib.cases.formats.image import Grid
from lib.cases.preprocessing import PreparedCase
from lib.ciml.checkpoint import load
from lib.ciml.inference.predict import infer
from lib.ciml.inference.shapley import sentence_of, shapley_of
from lib.ciml.network.ciml_network import CimlNetwork
from lib.ciml.network.tuning import lay_out
from lib.pipeline.disk import disk_bytes
from lib.pipeline.segmentation_cache import Segmentation, SegmentationCache
from lib.pipeline.workspace import Workspace
from lib.runtime.devices import device_of
from lib.runtime.errors import UserError

logger = logging.getLogger(__name__)
SEGMENTATION_VERSION = 2  # raise when a segmentation of the same case by the same model changes


class ModelMismatch(UserError):
    """The model was trained for another pool."""


@dataclass(frozen=True)
class PublishedModel:
    """The model that answers requests now.

    Attributes:
        file: Checkpoint of the model.
        key: Hash of the checkpoint and of the modalities and labels that the workspace expects.
    """

    file: Path
    key: str


@dataclass(frozen=True, eq=False)
class Segmented:
    """A segmentation and the time that it took.

    Attributes:
        segmentation: The model's answer.
        seconds: Seconds by stage: `read` (files or cache), `pre` (preparing the box), `infer`, `post`
            (storing the segmentation and drawing the label map, and the Shapley values if they are made).
        cached: Whether the segmentation came from the cache.
    """

    segmentation: Segmentation
    seconds: dict[str, float]
    cached: bool

    def label_on(self, grid: Grid) -> NDArray[np.uint8]:
        """Label map (D, H, W) on a grid; the time is added to `post`."""
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
        """Facts for the client: version, modalities used, uncertainty, Shapley values, fallback."""
        about = dict(self.segmentation.about)
        return {**about, "cached": self.cached, "prefetched": self.cached and about["prefetched"]}


class Segmenter:
    """Segments cases with the current model; its weights are loaded once, and again when they change."""

    def __init__(self, workspace: Workspace) -> None:
        """Load nothing yet; `device` starts as the workspace's and may be set to another."""
        self.workspace, self.device = workspace, device_of(workspace.settings.device)
        self._working = threading.Lock()  # one case at a time: two would need twice the memory
        self._current: tuple[tuple[Path, int, int], PublishedModel] | None = None
        self._loaded: tuple[PublishedModel, CimlNetwork, dict[str, Any]] | None = None

    @cached_property
    def cache(self) -> SegmentationCache:
        """Cache of the segmentations."""
        return SegmentationCache(
            self.workspace.folders.work / "segmentations",
            max_bytes=disk_bytes(self.workspace.settings, "segmentations"),
        )

    def published(self) -> PublishedModel | None:
        """The model that answers requests now; None before the first training."""
        file = self.workspace.models.current()
        if file is None:
            return None
        stat = file.stat()
        stamp = (file, stat.st_ino, stat.st_mtime_ns)
        if self._current is None or self._current[0] != stamp:
            with file.open("rb") as stream:
                digest = hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=16))
            expected = [
                SEGMENTATION_VERSION,
                self.workspace.preparation.modalities,
                self.workspace.decomposition.to_dict(),
            ]
            digest.update(json.dumps(expected).encode())
            self._current = (stamp, PublishedModel(file, digest.hexdigest()))
        return self._current[1]

    def serve(self, version: int) -> None:
        """Choose the version of the model that answers from now on, in every process; 0 means the newest.

        Raises:
            UserError: If the version does not exist.
            ModelMismatch: If the model was trained for other modalities or labels.
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
        logger.info("version %s was chosen to answer from now on", version or "that is newest")

    def take(self, file: Path) -> int:
        """Publish a checkpoint that an administrator sent as the newest version, and return its number.

        Raises:
            UserError: If the file is no checkpoint of this app.
            ModelMismatch: If the model was trained for other modalities or labels.
        """
        try:
            network, about = load(file)
        except ValueError as err:
            raise UserError(
                "a model must be a complete checkpoint that this app wrote; this file is none."
            ) from err
        self._check_fits(network)
        version = self.workspace.models.publish(network, {**about, "sent": datetime.now(UTC).isoformat()})
        logger.info("version %s of the model was sent by an administrator", version)
        return version

    def is_ready(self, case: Case) -> bool:
        """Whether the current model has segmented the case in its current state."""
        model = self.published()
        return model is not None and self.cache.has(model.key, case.id, self.workspace.cache.key(case))

    def earlier(self, case: Case, model: str) -> Segmentation | None:
        """Segmentation of a case by a model, given by its key, if it is still in the cache."""
        return self.cache.get(model, case.id, self.workspace.cache.key(case))

    def segment(self, case: Case, *, prefetching: bool = False) -> Segmented | None:
        """Segment a case with the current model; None before the first training.

        While nobody waits, the Shapley values of the modalities are made too.

        Args:
            case: Case to segment.
            prefetching: Whether nobody has asked for the case yet; recorded with the segmentation.

        Raises:
            ModelMismatch: If the model was trained for other modalities or labels.
            UserError: If a file of the case cannot be used.
        """
        start = time.monotonic()
        if (model := self.published()) is None:
            return None
        key = self.workspace.cache.key(case)
        if (cached := self.cache.get(model.key, case.id, key)) is not None:
            return _from_cache(cached, start)
        with self._working:
            if (cached := self.cache.get(model.key, case.id, key)) is not None:  # made while we waited
                return _from_cache(cached, start)
            made = self._make(case, model, start, prefetching)
            post = time.monotonic()
            self.cache.put(model.key, case.id, key, made.segmentation)
            made.seconds["post"] += time.monotonic() - post
        return made

    def explained(self, case: Case) -> Segmented:
        """Segmentation of a case with the Shapley values of its modalities.

        Raises:
            UserError: As in `segment`, or if there is no model.
        """
        segmented = self.segment(case)
        if segmented is None:
            raise UserError("a model must have been trained; there is none. Label cases and train.")
        if "shapley" in segmented.about:
            return segmented
        with self._working:
            found, model = segmented.segmentation, self.published()
            if model is None or model.key != found.about["model"]:
                raise UserError("the model changed meanwhile. Ask again.")
            network = self._load(model)[0]
            about = {**found.about, **self._shapley(network, self.workspace.cache.get(case), found)}
            segmented = replace(segmented, segmentation=replace(found, about=about))
            self.cache.put(model.key, case.id, self.workspace.cache.key(case), segmented.segmentation)
        return segmented

    def network(self) -> CimlNetwork:
        """The network of the current model, ready for use.

        Raises:
            UserError: If there is no model, or it was trained for other modalities or labels.
        """
        if (model := self.published()) is None:
            raise UserError("a model must have been trained; there is none. Label cases and train.")
        return self._load(model)[0]

    def _make(self, case: Case, model: PublishedModel, start: float, prefetching: bool) -> Segmented:
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
            "device": answer.device,
            "precision": answer.precision,
            "fallback": answer.fallback,
            "prefetched": prefetching,
        }
        segmentation = Segmentation.of(answer, prepared.grid, network.decomposition, about)
        if prefetching:
            with suppress(torch.OutOfMemoryError):  # they are made later if somebody asks
                about |= self._shapley(network, prepared, segmentation)
        seconds = {"read": read - start, **answer.seconds, "post": time.monotonic() - post}
        return Segmented(segmentation, seconds, cached=False)

    def _shapley(
        self, network: CimlNetwork, prepared: PreparedCase, segmentation: Segmentation
    ) -> dict[str, Any]:
        """Shapley values of the modalities, and a sentence on them."""
        values = shapley_of(network, prepared, segmentation.masks(), device=self.device)
        used = zip(prepared.modalities, prepared.present, strict=True)
        absent = [name for name, here in used if not here]
        return {"shapley": values, "sentence": sentence_of(values, absent)}

    def _load(self, model: PublishedModel) -> tuple[CimlNetwork, dict[str, Any]]:
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


def _from_cache(segmentation: Segmentation, start: float) -> Segmented:
    seconds = {"read": time.monotonic() - start, "pre": 0.0, "infer": 0.0, "post": 0.0}
    return Segmented(segmentation, seconds, cached=True)
