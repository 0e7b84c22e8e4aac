"""Studies folder during the search for cases: its usable entries, and the entries that were skipped."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from lib.cases.case import Case, Source, is_unicode
from lib.cases.discovery.series_rules import RULE_PRESETS, SeriesRules
from lib.cases.formats.image import FILE_SUFFIXES, suffix_of
from lib.cases.pool import Pool, Skipped, files_of, image_of, make_pool
from lib.runtime.errors import UserError
from lib.runtime.walk import MAX_DEPTH, Entries, below

REGISTER_FILE = "datastore_v2.json"  # MONAI Label's name
SERVERS_OWN = {"labels", "model", "logs", "bin"}  # written beside the studies by the server
_READ = f"only {', '.join(FILE_SUFFIXES)} and DICOM are read"
ONLY_READ = f"{_READ}. Convert it."
_TWO_FILES = "its header and its voxels are two files, and no header may name a file to open"
_UNREAD = {  # why a volume is not read, by the end of its name
    **{".mhd": f"{_TWO_FILES}. Save it as .mha.", ".nhdr": f"{_TWO_FILES}. Save it as .nrrd."},
    **dict.fromkeys((".hdr", ".img"), f"{_TWO_FILES}. Save it as .nii.gz with its position."),
    **dict.fromkeys((".raw", ".zraw"), "voxels without their header are not read. Save both as one .mha."),
    **dict.fromkeys((".mgz", ".mgh"), f"{_READ}. Convert it with mri_convert to .nii.gz."),
    **dict.fromkeys((".gz", ".bz2", ".xz", ".zst"), f"{_READ}. Unpack it, or save it as .nii.gz."),
    **dict.fromkeys((".mnc", ".vtk", ".gipl", ".par", ".rec"), f"{_READ}. Convert it to .nii.gz."),
}


def is_no_study(name: str, *, at_root: bool) -> bool:
    """Whether an entry is neither used nor named as skipped: hidden files, and the server's own.

    Hidden are `.mdal`, `.DS_Store`, `._p01_T1.nii.gz` and whatever else begins with a dot. The server's own
    are `labels`, `model`, `logs`, `bin` and its register, directly in the studies folder.
    """
    return name.startswith(".") or (at_root and (name in SERVERS_OWN or name.startswith(REGISTER_FILE)))


def unread_format(name: str) -> str:
    """Why an image is not read, by the end of its name; empty if it is read, or is no image."""
    return "" if suffix_of(Path(name)) else _UNREAD.get(os.path.splitext(name)[1].lower(), "")


class Folder(NamedTuple):
    """Folder of the studies.

    Attributes:
        path: Path of the folder.
        entries: Usable entries in order.
        images: Volume files among them.
    """

    path: Path
    entries: Entries
    images: list[Path]


@dataclass
class Studies:
    """Studies folder during a search.

    Attributes:
        root: Studies folder.
        extra: Names of further modalities, from the settings.
        follow_links: Whether to use files and folders that are links to outside `root`.
        rules: Rules that name the modality of a DICOM series.
        used: Images of earlier listings (`image_of`), which are taken before others.
        skipped: Entries that were left out so far, with reasons.
        listed: Folders with their usable entries; empty until `tree` lists them.
    """

    root: Path
    extra: tuple[str, ...] = ()
    follow_links: bool = False
    rules: SeriesRules = RULE_PRESETS["usual"]
    used: Set[str] = frozenset()
    skipped: list[Skipped] = field(default_factory=list)
    listed: list[Folder] = field(default_factory=list)

    def afresh(self) -> Studies:
        """The same folder for the search by another layout; it is not listed again."""
        self.tree()
        return replace(self, skipped=list(self.skipped))

    def tree(self) -> list[Folder]:
        """The root and all folders below it, in order.

        A link to a folder is followed only directly in the root: deeper down it may lead to another patient.
        """
        if not self.listed:
            self.listed += (
                Folder(place, entries, _images_among(entries))
                for place, entries in self.folders_below(self.root)
            )
            places = {folder.path for folder in self.listed}
            for _, entries, _ in self.listed:
                for entry in entries:
                    if entry.is_symlink() and entry.is_dir() and Path(entry.path) not in places:
                        self.skip(Path(entry.path), "it is a link to a folder that is listed already.")
        return self.listed

    def entries(self, folder: Path) -> Entries:
        """Visible entries of a folder in order; unusable ones are recorded as skipped."""
        try:
            with os.scandir(folder) as scan:
                at_root = folder == self.root
                found = [entry for entry in scan if not is_no_study(entry.name, at_root=at_root)]
        except OSError as err:
            self.skip(folder, f"it must be a readable folder; {err.strerror}. Check its permissions.")
            return []
        return [entry for entry in sorted(found, key=lambda entry: entry.name) if self._usable(entry)]

    def folders_below(self, folder: Path) -> Iterator[tuple[Path, Entries]]:
        """A folder and all folders below it, with their usable entries; others are recorded as skipped."""
        for place, entries, too_deep in below(folder, self._entries_below):
            if too_deep:
                self.skip(place, f"it lies more than {MAX_DEPTH} folders deep. Move it up.")
            else:
                yield place, entries

    def folders(self) -> Iterator[os.DirEntry[str]]:
        """Folders of the root that are not the server's own."""
        return (entry for entry in self.entries(self.root) if entry.is_dir())

    def images(self, folder: Path) -> list[Path]:
        """Volume files of a folder."""
        return _images_among(self.entries(folder))

    def was_used(self, source: Source) -> bool:
        """Whether an image was a case's at an earlier listing; it is then taken before others."""
        return bool(self.used) and image_of(source, self.root) in self.used

    def skip(self, path: Path, reason: str) -> None:
        """Record a file or folder as skipped."""
        self.skipped.append(Skipped(path, reason))

    def pool(self, layout: str, cases: Iterable[Case | None]) -> Pool:
        """The result of the search."""
        return make_pool(self.root, layout, [case for case in cases if case], self.skipped, self.used)

    def _entries_below(self, folder: Path) -> Entries:
        """Usable entries of a folder, links last.

        Links to folders, which may lead to another patient, only directly in the root.
        """
        found = []
        for entry in self.entries(folder):
            if entry.is_symlink() and entry.is_dir() and folder != self.root:
                self.skip(Path(entry.path), "a link to a folder is not followed here. Copy the folder.")
            else:
                found.append(entry)
        return sorted(found, key=lambda entry: entry.is_symlink())

    def _usable(self, entry: os.DirEntry[str]) -> bool:
        """Whether the name of an entry is valid UTF-8 and the file system can tell what the entry is."""
        if not is_unicode(entry.name):
            self.skip(Path(entry.path), "its name must be UTF-8. Rename it.")
            return False
        try:
            entry.is_dir()  # the entry caches the result
            entry.is_file()
            return self._inside(entry)
        except (OSError, RuntimeError) as err:  # RuntimeError: a link that leads to itself
            reason = err.strerror if isinstance(err, OSError) else "it is a loop of links"
            self.skip(Path(entry.path), f"it must be readable; {reason}. Check its permissions.")
            return False

    def _inside(self, entry: os.DirEntry[str]) -> bool:
        if (
            self.follow_links
            or not entry.is_symlink()
            or Path(entry.path).resolve().is_relative_to(self.root)
        ):
            return True
        self.skip(
            Path(entry.path),
            "it is a link to outside the studies folder. Copy the file, or set --conf follow_links true.",
        )
        return False


def _images_among(entries: Entries) -> list[Path]:
    """Volume files among the entries of a folder."""
    return [
        Path(entry.path)
        for entry in entries
        if entry.name.lower().endswith(FILE_SUFFIXES) and entry.is_file()
    ]


def case_or_skip(
    studies: Studies,
    id: str,
    modalities: Mapping[str, Source],
    label: Path | None,
    *,
    layout: str,
    patient: str = "",
    notes: tuple[str, ...] = (),
) -> Case | None:
    """Case, or None if its name or files are invalid; each of its files is recorded as skipped."""
    try:
        return Case(id, modalities, label, patient=patient, layout=layout, notes=notes)
    except UserError as err:
        for path in files_of(modalities, label):
            studies.skip(path, str(err))
        return None
