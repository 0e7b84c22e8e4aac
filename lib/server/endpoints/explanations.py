"""Explanations: made once for a case and a model, then answered from disk."""

from __future__ import annotations

import hashlib
import logging
import os
import threading
from pathlib import Path

import torch

from lib.cases.case import Case
from lib.cases.quality.verdicts import Quarantined
from lib.ciml.checkpoint import load
from lib.ciml.inference.explanation import MEASURES, links_of
from lib.pipeline.disk import disk_bytes
from lib.pipeline.segmentation import Segmenter
from lib.pipeline.training_data import LEAST_PATIENTS
from lib.runtime.disk_cache import evict_least_recently_used
from lib.runtime.errors import UserError
from lib.server.errors import ClientError
from lib.views.exports.explanation_files import NUMBERS, map_name, write_explanation

logger = logging.getLogger(__name__)
EXPLANATION_VERSION = 1  # raise when an explanation of the same case and model changes
IN_USE_S = 60.0  # while its files are perhaps still being sent
PATIENCE = 120.0  # seconds that a request waits for another one's explanation
_BUSY = "Another explanation is being made and takes long. Ask again in a minute."


class Explanations:
    """Explanations of a site's cases by its current model, one made at a time."""

    def __init__(self, segmenter: Segmenter) -> None:
        """Nothing is loaded or made yet."""
        self.segmenter, self.workspace = segmenter, segmenter.workspace
        self._making = threading.Lock()

    def file(self, name: str, file: str) -> Path:
        """One file of a case's explanation, made now if it is not there.

        Args:
            name: Of a case or of one of its volumes; it is looked up, never opened.
            file: As `lib.views.exports.explanation_files` names it.

        Raises:
            Refusal: 404 for another name, 409 for a case or a model that cannot answer, 503 when busy.
        """
        try:
            case, _ = self.workspace.verdicts.resolve(name)
        except Quarantined as err:
            raise ClientError(str(err), status=409) from err
        except UserError as err:
            raise ClientError(str(err), status=404) from err
        try:
            return self._folder(case) / file
        except ValueError as err:  # a file of the case or the model that does not fit
            raise ClientError(str(err), status=409) from err
        except torch.OutOfMemoryError as err:
            raise ClientError(
                f"The device's memory does not hold {case.id} now. {_BUSY}", status=503
            ) from err

    def map_file(self, name: str, sender: str, subtask: str, measure: str) -> Path:
        """The map of one measure from a modality to a subtask.

        Raises:
            Refusal: As `file`; 404 too where there is no such map.
        """
        if measure not in MEASURES:
            raise ClientError(
                f"measure must be one of {', '.join(MEASURES)}; got {measure[:40]!r}.", status=404
            )
        links = links_of(self.workspace.decomposition, measure)
        if (sender, subtask) not in links:
            known = ", ".join("/".join(link) for link in links)
            raise ClientError(
                f"sender/subtask must be one of {known}; got {f'{sender}/{subtask}'[:80]!r}.", status=404
            )
        return self.file(name, map_name((sender, subtask), measure))

    def _folder(self, case: Case) -> Path:
        model = self.segmenter.published()
        if model is None:
            raise UserError(
                f"an explanation needs a trained model. Label {LEAST_PATIENTS} cases and press Train."
            )
        text = f"{EXPLANATION_VERSION} {model.key} {self.workspace.cache.key(case)}"
        key = hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
        folder = self.workspace.folders.work / "explanations" / key
        if not (folder / NUMBERS).exists():
            if not self._making.acquire(timeout=PATIENCE):
                raise ClientError(_BUSY, status=503)
            try:
                if not (folder / NUMBERS).exists():  # who was before us may have made it
                    self._make(case, model.file, folder)
            finally:
                self._making.release()
        os.utime(folder)
        return folder

    def _make(self, case: Case, model_file: Path, folder: Path) -> None:
        network = self.segmenter.network()
        if network is None:
            raise UserError("the model was withdrawn. Train again.")
        version = load(model_file)[1].get("version")
        write_explanation(self.workspace, case, network, folder, version=version)
        logger.info("explained %s", case.id)
        evict_least_recently_used(
            folder.parent.iterdir(), disk_bytes(self.workspace.settings, "explanations"), in_use_s=IN_USE_S
        )
