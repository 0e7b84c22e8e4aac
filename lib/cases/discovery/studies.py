"""Studies folder during the search for cases: its usable entries, and the entries that were skipped."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lib.cases.case import Case, Source, is_unicode
from lib.cases.discovery.series_rules import RULE_PRESETS, SeriesRules
from lib.cases.formats.image import FILE_SUFFIXES, suffix_of
from lib.cases.pool import Pool, Skipped, make_pool
from lib.runtime.errors import UserError
from lib.runtime.walk import MAX_DEPTH, Entries, below

REGISTER_FILE = "datastore_v2.json"  # MONAI Label's name
SERVERS_OWN = {"labels", "model", "logs", "bin"}  # written beside the studies by the server
_READ = f"only {', '.join(FILE_SUFFIXES)} and DICOM are read"
_TWO_FILES = "its header and its voxels are two files, and no header may name a file to open"
_UNREAD = {  # why a volume is not read, by the end of its name
    **{".mhd": f"{_TWO_FILES}. Save it as .mha.", ".nhdr": f"{_TWO_FILES}. Save it as .nrrd."},
    **dict.fromkeys((".hdr", ".img"), f"{_TWO_FILES}. Save it as .nii.gz with its position."),
    **dict.fromkeys((".raw", ".zraw"), "voxels without their header are not read. Save both as one .mha."),
    **dict.fromkeys((".mgz", ".mgh"), f"{_READ}. Convert it with mri_convert to .nii.gz."),
    **dict.fromkeys((".gz", ".bz2", ".xz", ".zst"), f"{_READ}. Unpack it, or save it as .nii.gz."),
    **dict.fromkeys((".mnc", ".vtk", ".gipl", ".par", ".rec"), f"{_READ}. Convert it to .nii.gz."),
}


@dataclass
class Studies:
    """Studies folder during a search.

    Attributes:
        root: Studies folder.
        extra: Names of further modalities, from the settings.
        follow_links: Whether to use files and folders that are links to outside `root`.
        rules: Rules that name the modality of a DICOM series.
        skipped: Entries that were left out so far, with reasons.
    """

    root: Path
    extra: tuple[str, ...] = ()
    follow_links: bool = False
    rules: SeriesRules = RULE_PRESETS["usual"]
    skipped: list[Skipped] = field(default_factory=list)

    def entries(self, folder: Path) -> Entries:
        """Visible entries of a folder in order; unusable ones are recorded as skipped."""
        try:
            with os.scandir(folder) as scan:
                found = sorted((e for e in scan if not e.name.startswith(".")), key=lambda e: e.name)
        except OSError as err:
            self.skip(folder, f"it must be a readable folder; {err.strerror}. Check its permissions.")
            return []
        return [entry for entry in found if self._usable(entry)]

    def folders_below(self, folder: Path) -> Iterator[tuple[Path, Entries]]:
        """A folder and all folders below it, with their usable entries; others are recorded as skipped."""
        for place, entries, too_deep in below(folder, self._entries_below):
            if too_deep:
                self.skip(place, f"it lies more than {MAX_DEPTH} folders deep. Move it up.")
            else:
                yield place, entries

    def folders(self) -> Iterator[os.DirEntry[str]]:
        """Folders of the root that are not the server's own."""
        return (
            entry for entry in self.entries(self.root) if entry.is_dir() and entry.name not in SERVERS_OWN
        )

    def images(self, folder: Path) -> Iterator[Path]:
        """Volume files of a folder; files in unsupported image formats are recorded as skipped."""
        for entry in self.entries(folder):
            if not entry.is_file():
                continue
            path = Path(entry.path)
            if suffix_of(path):
                yield path
            elif reason := _UNREAD.get(path.suffix.lower()):
                self.skip(path, reason)

    def skip(self, path: Path, reason: str) -> None:
        """Record a file or folder as skipped."""
        self.skipped.append(Skipped(path, reason))

    def pool(self, layout: str, cases: Iterable[Case | None]) -> Pool:
        """The result of the search."""
        return make_pool(self.root, layout, [case for case in cases if case], self.skipped)

    def _entries_below(self, folder: Path) -> Entries:
        """Usable entries of a folder, without links to folders, which may lead to another patient."""
        found = []
        for entry in self.entries(folder):
            if entry.is_symlink() and entry.is_dir():
                self.skip(Path(entry.path), "a link to a folder is not followed here. Copy the folder.")
            else:
                found.append(entry)
        return found

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


def case_or_skip(
    studies: Studies,
    id: str,
    modalities: Mapping[str, Source],
    label: Path | None,
    *,
    layout: str,
    patient: str = "",
) -> Case | None:
    """Case, or None if its name or files are invalid; the reason is recorded as skipped."""
    try:
        return Case(id, modalities, label, patient, layout)
    except UserError as err:
        studies.skip(next(iter(modalities.values())).path, str(err))
        return None
