"""One patient's study: several modalities, one id."""

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

Place = tuple[tuple[int, int, int], NDArray[np.float64]]  # (D, H, W), and index to RAS+ mm as `Grid` has it


class CaseError(UserError):
    """A file or a case that cannot be used; the message names it and says what to do."""


@dataclass(frozen=True)
class Source:
    """Where one 3-D volume lies: a file, one channel of a 4-D file, or a folder of DICOM slices.

    Attributes:
        path: File or DICOM folder.
        channel: Index into the fourth dimension of a 4-D NIfTI; None for a 3-D source.
        scale: Stored value x scale = value in the modality's unit (HU, SUV; MR has none).
        series: DICOM SeriesInstanceUID, where `path` holds more than one series.
        called: The file in sentences, where a client must not see `path`.
    """

    path: Path
    channel: int | None = None
    scale: float = 1.0
    series: str | None = None
    called: str = field(default="", kw_only=True)

    @property
    def name(self) -> str:
        """How sentences name it."""
        return self.called or str(self.path)

    def make_local(self) -> None:
        """Put it at `path` if it is not there yet; files already are."""

    def kept_place(self) -> Place | None:
        """Shape and affine of what is not at `path` any more, as they were; None: the files say it."""
        return None

    def stamp(self) -> str:
        """Names, sizes and times of its files: changes whenever what it holds may have.

        Raises:
            CaseError: If a file is gone.
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
    """A study under one id; every sibling volume is an alias of that id.

    Attributes:
        id: Unique in the pool, safe as a file name.
        modalities: Volume of each modality that the case has, in the pool's order.
        label: Reference contour found beside the images, if any.
        patient: Group for cross-validation: cases of one patient are never split.
        layout: Name of the layout that found it.
    """

    id: str
    modalities: Mapping[str, Source]
    label: Path | None = None
    patient: str = ""
    layout: str = ""

    def __post_init__(self) -> None:
        """Default the patient, refuse what could not be a file name."""
        if not is_safe_name(self.id):
            raise CaseError(
                f"a case id must be letters, digits, dot, dash, underscore or space, and start with "
                f"a letter or digit; got {self.id!r}. Rename the folder or file."
            )
        if not self.modalities:
            raise CaseError(f"case {self.id} must have at least one modality; got none.")
        object.__setattr__(self, "patient", self.patient or self.id)


def is_unicode(name: str) -> bool:
    """Whether a file's name is UTF-8; another one can be neither written down nor stored."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


_SAFE_NAME = re.compile(r"[^\W_][\w .+@()\-]{0,127}")


def is_safe_name(name: str) -> bool:
    """Whether a name can be a file name and part of an URL: no separator, no leading dot, no control."""
    return bool(_SAFE_NAME.fullmatch(name)) and ".." not in name and not name.endswith((".", " "))
