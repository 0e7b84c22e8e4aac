"""Versions of a case's labels: each is a folder that is written once and never changed."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

from lib.cases.formats.image import suffix_of
from lib.runtime.disk_cache import PART
from lib.runtime.errors import UserError
from lib.runtime.files import make_durable
from lib.runtime.own_files import Damaged, read_document

DOCUMENT = "version.json"
LEFT_S = 3600.0  # no label takes so long to copy
_TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_NUMBER = re.compile(r"\d{4,}")

Kind = Literal["submitted", "model", "pacs", "taken in", "noted", "restored", "removed"]


@dataclass(frozen=True)
class LabelVersion:
    """One version of a case's label with one tag; the version with the largest number is current.

    Attributes:
        case_id: Id of the case.
        tag: Tag of the label.
        kind: How the version came: `submitted` by a reader, stored by a `model`, fetched from the `pacs`,
            `taken in` from another program's files, `noted` or `restored` from an earlier version, or
            `removed`, which marks that the case has no label of this tag any more.
        written: Time in ISO 8601, UTC; empty if it is not known.
        number: Number of the version, from 1; 0 until it is stored.
        file: Name of the label file; empty for `removed`.
        sha256: Hash of the label file.
        grid: Shape (D, H, W) and affine (RAS, mm) of the image that the label was drawn on.
        segments: Name and value of each structure in the file.
        reader: Name of the reader, of the model or of the SEG's author; empty if it is not known.
        client: Program or machine that sent the label.
        notes: Notes of the client.
        about: What the label began from, the hashes of its images then, the time that the reader took, the
            version that it goes back to.
    """

    case_id: str
    tag: str
    kind: Kind
    written: str
    number: int = 0
    file: str = ""
    sha256: str = ""
    grid: dict[str, Any] = field(default_factory=dict)
    segments: tuple[tuple[str, int], ...] = ()
    reader: str = ""
    client: str = ""
    notes: dict[str, Any] = field(default_factory=dict)
    about: dict[str, Any] = field(default_factory=dict)

    @property
    def is_label(self) -> bool:
        """Whether the version holds a label."""
        return self.kind != "removed"

    @property
    def key(self) -> tuple[str, str, int]:
        """Case, tag and number, which no two versions share."""
        return self.case_id, self.tag, self.number


class VersionFiles:
    """Label files at `TAG/CASE/NUMBER/CASE.nii.gz` below a folder, each beside its `version.json`.

    A version's folder is completed elsewhere and then renamed, so it is there whole or not at all. Its number
    is free as long as no folder has it, because a folder cannot be renamed onto another one that has files.
    """

    def __init__(self, folder: Path) -> None:
        """Use a folder; it need not exist."""
        self.folder = folder

    def file_of(self, version: LabelVersion) -> Path:
        """Label file of a version."""
        return self._place(version) / version.file

    def beside(self, version: LabelVersion, name: str) -> Path:
        """A file of the program's own in the folder of a version."""
        return self._place(version) / name

    def append(self, version: LabelVersion, file: Path | None) -> LabelVersion:
        """Store the next version of a case's label.

        Args:
            version: Version to store; its number is the first to try.
            file: Label file, which is copied; None for a removal.

        Returns:
            The version with its number, file name and hash.

        Raises:
            UserError: If the folder of the tag is a link to elsewhere.
            OSError: If the folder cannot be written; nothing is stored then.
        """
        folder = self._checked_folder(version)
        folder.mkdir(parents=True, exist_ok=True)
        part = self.folder / f"{PART}{uuid4().hex[:8]}"
        part.mkdir()
        try:
            if file is not None:
                name = f"{version.case_id}{suffix_of(file)}"
                version = replace(version, file=name, sha256=_copied(file, part / name))
            return self._publish(version, part)
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise

    def sweep(self) -> None:
        """Remove what writers that were killed left; a label that is younger may still be written."""
        for part in self.folder.glob(f"{PART}*"):
            with suppress(OSError):
                if time.time() - part.stat().st_mtime > LEFT_S:
                    shutil.rmtree(part)

    def numbers(self) -> Iterator[tuple[str, str, int]]:
        """Case, tag and number of every version, from the names of the folders."""
        for tag in entries_of(self.folder, folders=True):
            for case in entries_of(tag, folders=True):
                for place in entries_of(case, folders=True):
                    if _NUMBER.fullmatch(place.name):
                        yield case.name, tag.name, int(place.name)

    def read(self, case_id: str, tag: str, number: int) -> LabelVersion:
        """Read one version.

        Raises:
            Damaged: If its document is missing or damaged.
        """
        wanted = LabelVersion(case_id, tag, "submitted", "", number)
        try:
            found = read_document(self._place(wanted) / DOCUMENT, LabelVersion)
        except FileNotFoundError as err:
            raise Damaged("its version.json is missing") from err
        if found.key != wanted.key:
            raise Damaged(f"its version.json is for version {found.number} of {found.case_id}, {found.tag}")
        return found

    def _publish(self, version: LabelVersion, part: Path) -> LabelVersion:
        number = max(version.number, 1)
        while True:
            numbered = replace(version, number=number)
            place = self._place(numbered)
            if not place.exists():
                (part / DOCUMENT).write_text(to_json(numbered))
                make_durable(part / DOCUMENT)
                try:
                    part.rename(place)
                except OSError:
                    if not place.exists():
                        raise
                else:
                    return numbered
            number += 1

    def _checked_folder(self, version: LabelVersion) -> Path:
        folder = self.folder / version.tag / version.case_id
        if not folder.resolve().is_relative_to(self.folder.parent.resolve()):
            raise UserError(
                f"labels tagged {version.tag} must lie in the folder of the labels; labels/{version.tag} is "
                "a link to elsewhere. Remove the link."
            )
        return folder

    def _place(self, version: LabelVersion) -> Path:
        return self.folder / version.tag / version.case_id / f"{version.number:04}"


def to_json(version: LabelVersion) -> str:
    """Document of a version.

    Raises:
        ValueError: If a value is not JSON; NaN and infinity are not JSON.
    """
    return json.dumps(asdict(version), allow_nan=False, indent=1)


def as_version(record: Mapping[str, Any]) -> LabelVersion:
    """Version from the values of its document."""
    segments = tuple((name, value) for name, value in record.get("segments", ()))
    return LabelVersion(**{**record, "segments": segments})


def _copied(file: Path, place: Path) -> str:
    """Copy a file, wait until it is on the disk, and return the SHA-256 hash of the copy."""
    shutil.copyfile(file, place)
    make_durable(place)
    with place.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def check_tag(tag: Any) -> str:
    """Check that a tag is a valid folder name, and return it.

    Raises:
        UserError: If the tag is not valid.
    """
    if not isinstance(tag, str) or not _TAG.fullmatch(tag):
        raise UserError(f"a label's tag must be letters, digits, dash and underscore; got {str(tag)[:80]!r}.")
    return tag


def entries_of(folder: Path, *, folders: bool) -> list[Path]:
    """Folders or files in a folder, but for hidden ones and links; none if the folder is missing."""
    try:
        with os.scandir(folder) as entries:
            return [
                folder / entry.name
                for entry in sorted(entries, key=lambda entry: entry.name)
                if not entry.name.startswith(".")
                and (entry.is_dir if folders else entry.is_file)(follow_symlinks=False)
            ]
    except (FileNotFoundError, NotADirectoryError):
        return []
