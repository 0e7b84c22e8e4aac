"""What the server knows of a label that a reader submits, and what the reader is told."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from lib.cases.case import Case
from lib.cases.formats.image import suffix_of
from lib.labels.origin import Origin, Saved
from lib.pipeline.segmentation import Segmenter
from lib.pipeline.workspace import Workspace
from lib.runtime.own_files import Unavailable
from lib.server.boundary.peers import annotator_of

logger = logging.getLogger(__name__)
KEPT = "unsaved"  # folder in the work folder for uploads that could not be stored


def origin_of(workspace: Workspace, segmenter: Segmenter, case: Case, *, reader: str, client: str) -> Origin:
    """Who submits a label of a case, how long they had it, and which pre-segmentation they were shown.

    Args:
        workspace: Workspace of the case.
        segmenter: Segmenter whose answers readers are shown.
        case: Case of the label.
        reader: Name of the reader; empty if it is not known.
        client: Address of the reader's machine.
    """
    about: dict[str, Any] = {}
    begun_from = None
    with suppress(Unavailable):  # the label is stored whatever the database answers
        if (seconds := workspace.plan.seconds_held(case.id, reader or annotator_of(""))) is not None:
            about["seconds_since_offer"] = round(seconds, 1)
        if shown := workspace.plan.events.last_shown(case.id, reader):
            about["model_version"] = shown.details["version"]
            if segmentation := segmenter.earlier(case, shown.details["model"]):
                begun_from = segmentation.outlined()
    return Origin("submitted", reader, client, about, begun_from)


def record_shown(workspace: Workspace, case: Case, about: Mapping[str, Any], reader: str) -> None:
    """Record which pre-segmentation a reader is shown: the label may begin from it.

    Args:
        workspace: Workspace of the case.
        case: Case that was segmented.
        about: Facts about the segmentation, with `version` and `model` if there is a model.
        reader: Name of the reader; empty if it is not known.
    """
    if "version" in about:
        shown = {"version": about["version"], "model": about["model"]}
        with suppress(Unavailable):  # the reader gets the segmentation all the same
            workspace.plan.events.record("segmented", case.id, reader or None, shown)


def record_superseded(workspace: Workspace, saved: Saved) -> None:
    """Record that a reader's label is current no more; the reader is told at the next Next Sample."""
    before, version = saved.before, saved.version
    if before is not None and before.reader not in ("", version.reader):
        about = {"by": version.reader, "version": version.number, "of": before.number}
        with suppress(Unavailable):
            workspace.plan.events.record("superseded", version.case_id, before.reader, about)


def told(saved: Saved) -> list[str]:
    """Warnings for a reader whose label was stored."""
    before, version = saved.before, saved.version
    if before is None or before.reader == version.reader:
        return list(saved.warnings)
    when = f" on {datetime.fromisoformat(before.written):%Y-%m-%d %H:%M} UTC" if before.written else ""
    return [
        f"{before.reader or 'Somebody'} labelled {version.case_id} before{when}. That label stays as "
        f"version {before.number}; yours is version {version.number} and the current one.",
        *saved.warnings,
    ]


def keep_upload(workspace: Workspace, file: Path, name: str) -> str:
    """Keep an upload that could not be stored, and say where, in a sentence."""
    place = workspace.folders.work / KEPT / f"{name}-{datetime.now():%Y%m%d-%H%M%S-%f}{suffix_of(file)}"
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, place)
    except OSError:
        logger.exception("an upload could not be stored and not be kept")
        with suppress(OSError):
            place.unlink()
        return "The upload could not be kept either: leave the label open in the viewer, and submit it again."
    logger.error("an upload could not be stored; it is kept as %s", place)
    return f"The upload is kept on the server as {KEPT}/{place.name} in its work folder."
