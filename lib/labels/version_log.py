"""Every version of every label: files are the truth, the database is their index."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Protocol

from lib.labels.versions import LabelVersion, VersionFiles, as_version
from lib.runtime.own_files import Damaged, Unavailable
from lib.runtime.progress import OnCasesDone

logger = logging.getLogger(__name__)
Current = Mapping[str, Mapping[str, LabelVersion]]


class VersionIndex(Protocol):
    """Records of the versions in the order of their recording; `lib.plan.label_index` keeps them."""

    def newest(self) -> int:
        """Position of the last record; 0 if there is none."""

    def newer(self, after: int) -> list[tuple[int, dict[str, Any]]]:
        """Position and record of each version after a position."""

    def of_case(self, case_id: str) -> list[dict[str, Any]]:
        """Records of one case, oldest first."""

    def keys(self) -> set[tuple[str, str, int]]:
        """Case, tag and number of every version."""

    def add(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Add records; records that are there already stay as they are."""

    def replace(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Make the whole index anew."""


class VersionLog:
    """Versions that are only appended: files first, then the index.

    A process that is killed in between leaves a version that the index lacks; `reconcile` adds it, and every
    process that opens the labels calls that. While the database does not answer, versions are stored all the
    same and their case is labelled; they are added once it answers.
    """

    def __init__(self, files: VersionFiles, index: VersionIndex) -> None:
        """Use the files and the index; nothing is read yet."""
        self.files, self._index = files, index
        self._seen, self._behind = 0, False
        self._current: dict[str, dict[str, LabelVersion]] = {}
        self._sources: dict[str, tuple[int, int]] = {}
        self._changing = threading.Lock()
        self._held = threading.local()

    @property
    def sources(self) -> Mapping[str, tuple[int, int]]:
        """Size and time of change (ns) of each file of another program when its last version was taken in."""
        _ = self.current
        return self._sources

    @property
    def current(self) -> Current:
        """Current version by case id and tag, removals among them; another object after each change."""
        held: Current | None = getattr(self._held, "current", None)
        if held is not None:
            return held
        with self._changing:
            try:
                if self._behind:
                    self._reconcile(lambda done, of: None)
                if self._index.newest() != self._seen:
                    self._read_newer()
            except Unavailable as err:
                logger.warning("labels stay as they were last read: %s", err)
            return self._current

    @contextmanager
    def one_state(self) -> Iterator[None]:
        """Show this thread the labels as they are now until the block ends; the index is asked once."""
        self._held.current = self.current
        try:
            yield
        finally:
            self._held.current = None

    def version(self, case_id: str, tag: str) -> LabelVersion | None:
        """Current label of a case and tag; None if there is none, or it was removed."""
        found = self.current.get(case_id, {}).get(tag)
        return found if found is not None and found.is_label else None

    def of_case(self, case_id: str) -> list[LabelVersion]:
        """Versions of a case, oldest first."""
        return [as_version(record) for record in self._index.of_case(case_id)]

    def append(self, version: LabelVersion, file: Path | None) -> LabelVersion:
        """Store a version, which becomes the current one of its case and tag.

        Raises:
            UserError: If the folder of the tag is a link to elsewhere.
            OSError: If the file cannot be written; nothing is stored then.
        """
        before = self.current.get(version.case_id, {}).get(version.tag)
        first = before.number + 1 if before else 1
        stored = self.files.append(replace(version, number=first), file)
        try:
            self._index.add([asdict(stored)])
        except Unavailable as err:
            logger.warning(
                "version %d of %s is stored and not in the index yet: %s", stored.number, stored.case_id, err
            )
            with self._changing:
                self._behind = True
                self._apply([stored])
        return stored

    def reconcile(self, on_progress: OnCasesDone = lambda done, of: None) -> list[str]:
        """Add the versions that the index lacks, and return what is wrong with the files, in sentences.

        Args:
            on_progress: Called with the number of versions read and of those to read.
        """
        with self._changing:
            return self._reconcile(on_progress)

    def rebuild(self, on_progress: OnCasesDone) -> tuple[int, list[str]]:
        """Make the index anew; return the number of versions, and what is wrong with others."""
        with self._changing:
            versions, problems = self._read(sorted(self.files.numbers()), on_progress)
            self._index.replace(asdict(each) for each in versions)
            self._seen, self._current, self._sources = 0, {}, {}
            self._read_newer()
            return len(versions), problems

    def _reconcile(self, on_progress: OnCasesDone) -> list[str]:
        self.files.sweep()
        on_disk, known = set(self.files.numbers()), self._index.keys()
        versions, problems = self._read(sorted(on_disk - known), on_progress)
        if versions:
            self._index.add(asdict(each) for each in versions)
        self._behind = False
        lost = (
            f"version {number} of the {tag} label of {case_id} must be in the folder of the labels; it is "
            "gone. Restore it from a backup, or run `python main.py labels STUDIES --rebuild`."
            for case_id, tag, number in sorted(known - on_disk)
        )
        return [*problems, *lost]

    def _read(
        self, keys: list[tuple[str, str, int]], on_progress: OnCasesDone
    ) -> tuple[list[LabelVersion], list[str]]:
        """Versions by their documents, oldest first where they say when they were written."""
        found, problems = [], []
        for done, key in enumerate(keys):
            on_progress(done, len(keys))
            try:
                found.append(self.files.read(*key))
            except Damaged as err:
                problems.append(
                    f"version {key[2]} of the {key[1]} label of {key[0]} must be whole; it is damaged: "
                    f"{err}. Restore its folder from a backup."
                )
        return sorted(found, key=lambda each: (each.number, each.written)), problems

    def _read_newer(self) -> None:
        records = self._index.newer(self._seen)
        self._apply([as_version(record) for _, record in records])
        if records:
            self._seen = records[-1][0]

    def _apply(self, versions: Iterable[LabelVersion]) -> None:
        current = dict(self._current)
        for version in versions:
            there = current.get(version.case_id, {})
            if version.number > (there[version.tag].number if version.tag in there else 0):
                current[version.case_id] = {**there, version.tag: version}
            if version.kind == "taken in":
                self._sources[version.about["file"]] = (version.about["size"], version.about["changed"])
        self._current = current
