"""A case: one study of a patient, with several modalities under one id."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from stat import S_ISDIR

import numpy as np
from numpy.typing import NDArray

from lib.runtime.errors import UserError

Place = tuple[tuple[int, int, int], NDArray[np.float64]]  # shape (D, H, W) and affine as in `Grid`


class CaseError(UserError):
    """A file or a case that cannot be used; the message names it and says what to do."""


@dataclass(frozen=True)
class Source:
    """Location of one 3-D volume: a file, one channel of a 4-D file, or a folder of DICOM slices.

    Attributes:
        path: File or DICOM folder.
        channel: Index into the fourth dimension of a 4-D NIfTI; None for a 3-D source.
        scale: Stored value x scale = value in the modality's unit (HU, SUV; MR has none).
        series: DICOM SeriesInstanceUID, needed if `path` holds more than one series.
        display_name: Name of the file in messages, if a client must not see `path`.
    """

    path: Path
    channel: int | None = None
    scale: float = 1.0
    series: str | None = None
    display_name: str = field(default="", kw_only=True)

    @property
    def name(self) -> str:
        """Name of the source in messages."""
        return self.display_name or str(self.path)

    def make_local(self) -> None:
        """Make sure that the volume is at `path`; plain files always are."""

    def last_known_place(self) -> Place | None:
        """Shape and affine of a volume that is no longer at `path`; None if the files are there to read."""
        return None

    def stamp(self) -> str:
        """Hash of names, sizes and times of the files; changes whenever the content may have changed.

        Raises:
            CaseError: If a file is missing.
        """
        try:
            stat = self.path.stat()
            marks = [(self.path.name, stat.st_size, stat.st_mtime_ns)]
            if S_ISDIR(stat.st_mode):
                with os.scandir(self.path) as files:
                    found = sorted((file.name, file.stat()) for file in files)
                marks = [(name, stat.st_size, stat.st_mtime_ns) for name, stat in found]
        except OSError as err:
            raise CaseError(f"{self.path} must be there and readable; {err}.") from err
        return hashlib.blake2b(repr(marks).encode(), digest_size=8).hexdigest()


@dataclass(frozen=True)
class Case:
    """A study under one id; the names of its volumes are aliases of that id.

    Attributes:
        id: Id of the case, unique in the pool and safe as a file name.
        modalities: Source of each modality of the case, in the pool's order.
        study_title: Patient, date and description of a study in a PACS; empty elsewhere.
        label: Reference contour found beside the images, if any.
        patient: Group for cross-validation; cases of one patient are never split.
        layout: Name of the layout that found the case.
        ignored: Value in the label of voxels that nobody annotated; None if the studies name none.
        notes: Sentences on volumes and labels of the case that were left out in favour of others; the pool
            check shows them as warnings.
    """

    id: str
    modalities: Mapping[str, Source]
    label: Path | None = None
    study_title: str = ""
    patient: str = ""
    layout: str = ""
    ignored: int | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse an unsafe id and a case without modalities; the patient defaults to the id."""
        if not is_safe_name(self.id):
            raise CaseError(
                f"a case id must be letters, digits, dot, dash, underscore or space, and start with "
                f"a letter or digit; got {self.id!r}. Rename the folder or file."
            )
        if not self.modalities:
            raise CaseError(f"case {self.id} must have at least one modality; got none.")
        object.__setattr__(self, "patient", self.patient or self.id)

    @property
    def title(self) -> str:
        """What people call the case: the title of its study, or else its id."""
        return self.study_title or self.id


def is_unicode(name: str) -> bool:
    """Whether a file's name is valid UTF-8; other names can be neither shown nor stored."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


_SAFE_NAME = re.compile(r"[^\W_][\w .+@()\-]{0,127}")


def is_safe_name(name: str) -> bool:
    """Whether a name is safe as a file name and in a URL: no separator, leading dot or control character."""
    return bool(_SAFE_NAME.fullmatch(name)) and ".." not in name and not name.endswith((".", " "))
