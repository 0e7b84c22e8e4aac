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
from lib.server.boundary.os_errors import NOT_ALLOWED, answer_to
from lib.server.datastore import reader_of
from lib.server.errors import ClientError
from lib.server.submission import keep_upload, told

logger = logging.getLogger(__name__)


def save_label(
    image: str, params: Any, tag: str | None, label: UploadFile, user: Any = None
) -> dict[str, Any]:
    """Store a reader's label as a new version; replaces MONAI Label's `api_save_label`.

    MONAI Label 0.8.5 writes the label to the system's temporary folder, with a suffix from the client's file
    name.

    Returns:
        Number of the version and warnings for the reader, besides what MONAI Label answers.

    Raises:
        ClientError: If the label, the image, the tag or the notes are not valid; nothing is stored then. If
            the label could not be written, the sentence says where the upload is kept.
    """
    from monailabel.config import settings
    from monailabel.interfaces.utils.app import app_instance

    app, notes = app_instance(), json_object(params, "params")
    suffix = suffix_of(Path(label.filename or "")) or Path(label.filename or "label").suffix[:10]
    reader = (user.username if user and settings.MONAI_LABEL_AUTH_ENABLE else "") or reader_of(notes)
    with received_file(label, suffix) as file:
        try:
            saved = app.submit(image, file, tag or "final", notes, reader)
        except OSError as err:
            answer = answer_to(err) or NOT_ALLOWED
            kept = keep_upload(app.workspace, file, app.datastore().resolve(image)[0].id)
            raise ClientError(f"{answer.sentence} {kept}", status=answer.status) from err
    case_id = saved.version.case_id
    try:
        app.on_save_label(image, case_id)
    except Exception:  # the label is stored, and the client must learn that
        logger.exception("the label of %s was saved, but the steps after saving failed", case_id)
    return {"image": image, "label": case_id, "version": saved.version.number, "warnings": told(saved)}


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
