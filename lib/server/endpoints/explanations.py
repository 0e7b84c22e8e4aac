"""Explanations of cases: computed once for a case and a model, then read from disk."""

from __future__ import annotations

import hashlib
import logging
import os
import threading
from pathlib import Path

import torch

from lib.cases.case import Case
from lib.cases.quality.verdicts import Quarantined
from lib.ciml.inference.explanation import MEASURES, links_of
from lib.pipeline.disk import disk_bytes
from lib.pipeline.segmentation import Segmenter
from lib.pipeline.training_data import LEAST_PATIENTS
from lib.runtime.disk_cache import evict_least_recently_used
from lib.runtime.errors import UserError
from lib.server.errors import ClientError
from lib.views.exports.explanation_files import NUMBERS, map_name, write_explanation

logger = logging.getLogger(__name__)
EXPLANATION_VERSION = 2  # raise when an explanation of the same case and model changes
IN_USE_S = 60.0  # an explanation used so recently may still be sending its files
PATIENCE_S = 120.0  # how long a request waits while another explanation is computed
_BUSY = "Another explanation is being made and takes long. Ask again in a minute."


class Explanations:
    """Explanations of the cases by the current model, computed one at a time."""

    def __init__(self, segmenter: Segmenter) -> None:
        """Load and compute nothing yet."""
        self.segmenter, self.workspace = segmenter, segmenter.workspace
        self._making = threading.Lock()

    def file(self, name: str, file: str) -> Path:
        """One file of a case's explanation, computed now if it does not exist.

        Args:
            name: Name of a case or of one of its volumes; it is only looked up, never opened.
            file: File name, as `lib.views.exports.explanation_files` defines it.

        Raises:
            ClientError: 404 for an unknown name, 409 if the case or the model cannot be used, 503 when busy.
        """
        try:
            case, _ = self.workspace.verdicts.resolve(name)
        except Quarantined as err:
            raise ClientError(str(err), status=409) from err
        except UserError as err:
            raise ClientError(str(err), status=404) from err
        try:
            return self._folder(case) / file
        except ValueError as err:  # a file of the case, or the model, does not fit
            raise ClientError(str(err), status=409) from err
        except torch.OutOfMemoryError as err:
            raise ClientError(
                f"The device's memory does not hold {case.id} now. {_BUSY}", status=503
            ) from err

    def map_file(self, name: str, sender: str, subtask: str, measure: str) -> Path:
        """Map of one measure from a sending modality to a subtask.

        Raises:
            ClientError: As in `file`; also 404 if there is no such map.
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
            if not self._making.acquire(timeout=PATIENCE_S):
                raise ClientError(_BUSY, status=503)
            try:
                if not (folder / NUMBERS).exists():  # another request may have computed it
                    self._make(case, folder)
            finally:
                self._making.release()
        os.utime(folder)
        return folder

    def _make(self, case: Case, folder: Path) -> None:
        write_explanation(self.segmenter, case, folder)
        logger.info("explained %s", case.id)
        evict_least_recently_used(
            folder.parent.iterdir(), disk_bytes(self.workspace.settings, "explanations"), in_use_s=IN_USE_S
        )
