"""Strips: every modality of a case side by side, through the place where the modalities differ most."""

from __future__ import annotations

import io
import logging
import threading
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from lib.cases.boxes import Box
from lib.cases.case import Case
from lib.cases.preprocessing import PreparedCase
from lib.pipeline.disk import disk_bytes
from lib.pipeline.place_differences import place_differences
from lib.pipeline.plan_document import budgeted
from lib.pipeline.workspace import Workspace
from lib.views.pictures.picture_cache import PictureCache
from lib.views.pictures.thumbnails import thumbnail

logger = logging.getLogger(__name__)
STRIP_VERSION = 2  # raise when a strip of the same case and position looks different
_FOLDERS = 256  # named by two hexadecimal digits: making a strip looks at all sizes in its folder
PANEL = 180  # pixels of the longer side of one modality's slice
_GAP = 3  # pixels between two modalities
_QUALITY = 82
_BACK, _ABSENT, _MARK = (5, 8, 12), (70, 82, 96), (255, 122, 156)


class Strips:
    """Strips of the cases, made once for a content and a place, then read from disk."""

    def __init__(self, workspace: Workspace) -> None:
        """Make no picture yet."""
        self.workspace = workspace
        self._making = threading.Lock()

    def file(self, case: Case) -> Path:
        """A JPEG of a case, made now if it does not exist; one at a time, as a volume takes memory.

        Raises:
            UserError: If a file of the case cannot be used.
        """
        key, differences = self.workspace.cache.key(case), place_differences(self.workspace)
        shown = differences.falling(case.id)[:1].tolist()

        def make(path: Path) -> None:
            with self._making:
                prepared = self.workspace.cache.get(case)
                path.write_bytes(strip(prepared, differences.most_different(prepared)))

        kept = PictureCache(
            self.workspace.folders.work / "strips" / key[:2],
            max_bytes=disk_bytes(self.workspace.settings, "strips") / _FOLDERS,
        )
        return kept.file(STRIP_VERSION, key, differences.view, shown, suffix=".jpg", make=make)

    def keep_chosen(self, *, limit: int = 200) -> int:
        """Make the strips of the chosen cases, best first.

        The chosen cases are viewed and labelled first, so their volumes are needed soon anyway. A plan works
        without strips: a strip that cannot be made is skipped and logged.

        Args:
            limit: Maximum number of strips; the others are made on request.

        Returns:
            Number of strips that exist now.
        """
        plan, strategy, count = self.workspace.plan.current(), self.workspace.settings.strategy, 0
        if plan is None:
            return 0
        order = self.workspace.plan.order(strategy, plan=plan.id)
        for id in order[: min(limit, budgeted(self.workspace, plan, strategy))]:
            try:
                self.file(self.workspace.pool.by_id[id])
                count += 1
            except (KeyError, OSError, ValueError) as err:
                logger.warning("no picture of %s: %s", id, err)
        return count


def strip(case: PreparedCase, box: Box | None) -> bytes:
    """A JPEG with an axial slice in every modality of the pool, each with an equal part of the width.

    A modality that the case lacks is shown as a cross.

    Args:
        case: Prepared case.
        box: Part of the case to cut through and to mark; None for the middle of the body.
    """
    had = [name for name, present in zip(case.modalities, case.present, strict=True) if present]
    shown = thumbnail(case, had, box)
    height_mm, width_mm = shown.size_mm
    scale = PANEL / max(height_mm, width_mm)  # pixels a mm
    width, height = max(1, round(width_mm * scale)), max(1, round(height_mm * scale))
    picture = Image.new("RGB", (len(case.modalities) * (width + _GAP) - _GAP, height), _BACK)
    pen, images = ImageDraw.Draw(picture), dict(zip(had, shown.images, strict=True))
    for column, name in enumerate(case.modalities):
        left = column * (width + _GAP)
        if name not in images:
            pen.line((left, 0, left + width, height), fill=_ABSENT, width=2)
            pen.line((left, height, left + width, 0), fill=_ABSENT, width=2)
            continue
        grey = Image.fromarray(np.round(255 * images[name]).astype(np.uint8))
        picture.paste(grey.resize((width, height), Image.Resampling.BICUBIC), (left, 0))
        if shown.marked_mm:
            x, y, across, down = (scale * length for length in shown.marked_mm)
            pen.rectangle((left + x, y, left + x + across, y + down), outline=_MARK, width=2)
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=_QUALITY)
    return stream.getvalue()
