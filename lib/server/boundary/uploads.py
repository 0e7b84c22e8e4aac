"""Uploaded files: written under a name that the server chooses, removed after use."""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fastapi import UploadFile

from lib.cases.formats.image import suffix_of
from lib.server.boundary.arguments import json_object
from lib.server.errors import ClientError

logger = logging.getLogger(__name__)


def save_label(image: str, params: Any, tag: str | None, label: UploadFile) -> dict[str, Any]:
    """Store a reader's label; replaces MONAI Label's `api_save_label`.

    MONAI Label 0.8.5 writes the label to the system's temporary folder, with a suffix from the client's file
    name.

    Raises:
        ClientError: If the label, the image, the tag or the notes are not valid; nothing is stored then.
    """
    from monailabel.interfaces.utils.app import app_instance

    app, notes = app_instance(), json_object(params, "params")
    suffix = suffix_of(Path(label.filename or "")) or Path(label.filename or "label").suffix[:10]
    with received_file(label, suffix) as file:
        label_id = app.datastore().save_label(image, str(file), tag or "final", notes)
    try:
        app.on_save_label(image, label_id)
    except Exception:  # the label is stored, and the client must learn that
        logger.exception("the label of %s was saved, but the steps after saving failed", label_id)
    return {"image": image, "label": label_id}


def take_model(model: str, file: UploadFile) -> dict[str, Any]:
    """Publish a checkpoint as the newest version; replaces MONAI Label's `api_update_model`.

    Raises:
        ClientError: If the file is no checkpoint of this app, or was trained for other modalities or labels.
    """
    from monailabel.interfaces.utils.app import app_instance

    app = app_instance()
    with received_file(file, ".pt") as sent:
        try:
            version = app.segmenter.take(sent)
        except ValueError as err:
            raise ClientError(str(err), status=409) from err
    return {**app.model_info(model), "version": version}


@contextmanager
def received_file(sent: UploadFile, suffix: str) -> Iterator[Path]:
    """Uploaded content as a file with this suffix, which exists while the block lasts."""
    with tempfile.TemporaryDirectory(prefix="received-") as folder:
        file = Path(folder) / f"file{suffix}"
        with file.open("wb") as stream:
            shutil.copyfileobj(sent.file, stream, 1 << 20)
        yield file


REPLACEMENTS: dict[str, Callable[..., dict[str, Any]]] = {
    "datastore.api_save_label": save_label,
    "model.api_update_model": take_model,
}
