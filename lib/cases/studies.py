"""A folder of studies while cases are sought in it: its entries, and what had to be left out."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lib.cases.case import Case, CaseError, Source
from lib.cases.image import FILE_SUFFIXES, suffix_of
from lib.cases.pool import Pool, Skipped, make_pool
from lib.cases.series_rules import PRESETS, SeriesRules

REGISTER = "datastore_v2.json"  # as MONAI Label names its own
SERVERS_OWN = {"labels", "model", "logs", "bin"}  # written beside the studies by the server


@dataclass
class Studies:
    """A folder being searched: its entries, and what had to be left out."""

    root: Path
    extra: tuple[str, ...] = ()
    follow_links: bool = False
    rules: SeriesRules = PRESETS["usual"]
    skipped: list[Skipped] = field(default_factory=list)

    def entries(self, folder: Path) -> list[os.DirEntry[str]]:
        """What lies in a folder, in order, without hidden entries and links to outside the root."""
        with os.scandir(folder) as scan:
            found = sorted((entry for entry in scan if not entry.name.startswith(".")), key=lambda e: e.name)
        return [entry for entry in found if self._inside(entry)]

    def folders(self) -> Iterator[os.DirEntry[str]]:
        """Folders of the root that are not the server's own."""
        return (
            entry for entry in self.entries(self.root) if entry.is_dir() and entry.name not in SERVERS_OWN
        )

    def images(self, folder: Path) -> Iterator[Path]:
        """Volume files of a folder; any other file is noted."""
        for entry in self.entries(folder):
            if not entry.is_file():
                continue
            path = Path(entry.path)
            if suffix_of(path):
                yield path
            elif path.suffix.lower() in {".gz", ".mha", ".mhd", ".img", ".hdr", ".mgz", ".nhdr"}:
                self.skip(path, f"only {', '.join(FILE_SUFFIXES)} and DICOM are read. Convert it.")

    def skip(self, path: Path, reason: str) -> None:
        """Note what is not used."""
        self.skipped.append(Skipped(path, reason))

    def pool(self, layout: str, cases: Iterable[Case | None]) -> Pool:
        """The result of the search."""
        return make_pool(self.root, layout, [case for case in cases if case], self.skipped)

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
    """The case, or None with a note where its name or its files cannot make one."""
    try:
        return Case(id, modalities, label, patient, layout)
    except CaseError as err:
        studies.skip(next(iter(modalities.values())).path, str(err))
        return None
