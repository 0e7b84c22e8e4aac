"""Labels of the cases: every version of what readers and models said, and the notes on the cases."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Set
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lib.cases.case import Case, Source
from lib.cases.discovery.found_pool import FoundPool
from lib.cases.formats.image import Volume, read_label_map, read_segments
from lib.cases.formats.voxels import IGNORED, present_values
from lib.labels.arrival import LabelChecks
from lib.labels.image_changes import IMAGES, ImageHashes
from lib.labels.meaning import renumbered
from lib.labels.notes import check_notes
from lib.labels.origin import UNKNOWN, Origin, Saved
from lib.labels.register import Register
from lib.labels.version_log import VersionLog
from lib.labels.versions import Kind, LabelVersion, check_tag
from lib.runtime.errors import UserError
from lib.runtime.files import replacing
from lib.runtime.own_files import read_or_set_aside

FINAL, ORIGINAL = "final", "original"  # MONAI Label's tags for a reader's label and a model's label
SERVER_KEYS = {"written", "dicom_seg", "version", "reader"}  # notes that only the server writes
SENT = "sent.json"  # file of a version that is in the PACS: the UIDs of its SEG


class LabelStore:
    """Labels saved as versions below `labels/TAG/CASE`, and contours beside the images.

    A contour beside the images has the tag of the setting `study_labels`. Notes on cases are stored in the
    register, datastore_v2.json.
    """

    def __init__(
        self,
        found: FoundPool,
        log: VersionLog,
        register: Register,
        *,
        checks: LabelChecks,
        study_labels: str,
        held: Callable[[], frozenset[str]] = frozenset,
        image_hashes: ImageHashes = lambda cases: {},
    ) -> None:
        """Open the labels of a pool.

        Args:
            found: Pool of the cases.
            log: Versions of the labels.
            register: Register of the notes.
            checks: Checks of the labels that come.
            study_labels: Tag of the contours beside the images.
            held: Ids of the cases whose contour beside the images is held back; the set is replaced when it
                changes.
            image_hashes: Returns the hashes that are kept with a reader's label, of the images of cases.
        """
        self.log, self.checks = log, checks
        self.meanings, self.numbering = checks.meanings, checks.meanings.numbering
        self._found, self._beside, self._max_voxels = found, study_labels, checks.max_voxels
        self.register, self._held, self._image_hashes = register, held, image_hashes
        self._labelled: tuple[Any, Any, Any, dict[str, Set[str]]] = (None, None, None, {})

    def files_of(self, case: Case) -> dict[str, Path]:
        """Label files of a case by tag; a saved label hides a contour beside the images with its tag."""
        found = {
            tag: self.log.files.file_of(version)
            for tag, version in self.log.current.get(case.id, {}).items()
            if version.is_label
        }
        if case.label is not None and case.id not in self._held():
            found.setdefault(self._beside, case.label)
        return found

    def is_saved(self, file: Path) -> bool:
        """Whether the server saved this label file; otherwise it lies beside the images and is not ours."""
        return file.is_relative_to(self.log.files.folder)

    def labelled(self, tag: str = FINAL) -> Set[str]:
        """Ids of all cases with a label of this tag; callers must not modify the set."""
        current, pool, held = self.log.current, self._found.pool, self._held()
        known = self._labelled
        if known[0] is not current or known[1] is not pool or known[2] is not held:  # replaced on change
            self._labelled = known = (current, pool, held, {})
        by_tag = known[3]
        if tag not in by_tag:
            saved = {id for id, versions in current.items() if tag in versions and versions[tag].is_label}
            beside = {case.id for case in pool.cases if case.label is not None and self._beside == tag}
            by_tag[tag] = (saved & pool.by_id.keys()) | (beside - held)
        return by_tag[tag]

    def counts(self) -> dict[str, int]:
        """Number of cases with a saved label, by tag."""
        each = (version for versions in self.log.current.values() for version in versions.values())
        return dict(Counter(version.tag for version in each if version.is_label))

    def read(self, case: Case, tag: str = FINAL, *, with_ignored: bool = False) -> Volume:
        """Label of a case with this app's values 1..n, uint8, on the grid that it was outlined on.

        Args:
            case: Case of the label.
            tag: Tag of the label.
            with_ignored: Whether voxels that nobody annotated are `IGNORED`, for training, or else 0.

        Raises:
            UserError: If the case has no label of this tag, or the label cannot be read.
        """
        if version := self.log.version(case.id, tag):
            return self.read_version(version)
        path = self.files_of(case).get(tag)
        if path is None:
            raise UserError(f"case {case.id} must have a label tagged {tag}; it has none.")
        volume = read_label_map(Source(path), max_voxels=self._max_voxels)
        table = self.meanings.of(
            case.id, present_values(volume.array), read_segments(Source(path)), ignored=case.ignored
        )
        if not with_ignored:
            table = {theirs: ours for theirs, ours in table.items() if ours != IGNORED}
        return renumbered(volume, table)

    def read_version(self, version: LabelVersion) -> Volume:
        """Label of a version with this app's values, uint8; structures that the app lacks are background.

        Raises:
            UserError: If the file cannot be read, or this app has none of its structures.
        """
        volume = read_label_map(Source(self.log.files.file_of(version)), max_voxels=self._max_voxels)
        labels, present = self.numbering.labels, present_values(volume.array) - {0}
        named = {value: name for name, value in version.segments}
        table = {value: labels[name] for value, name in named.items() if name in labels}
        if present and (not table or present - named.keys()):
            raise UserError(
                f"version {version.number} of the label of {version.case_id} must hold "
                f"{' or '.join(labels)}; it holds {', '.join(named.values()) or sorted(present)}. Name its "
                "structures with --conf labels."
            )
        return renumbered(volume, table)

    def save(
        self,
        case: Case,
        file: Path,
        tag: str,
        notes: Any,
        origin: Origin = UNKNOWN,
        *,
        written: str | None = None,
    ) -> Saved:
        """Store a label unchanged, as a new version with a client's notes.

        Args:
            case: Case of the label.
            file: Label file.
            tag: Tag of the label.
            notes: Notes of the client.
            origin: Who sent it, and from what it began.
            written: Time in ISO 8601, UTC, empty if it is not known; by default the present time.

        Raises:
            UserError: If the tag, the notes or the label are invalid; nothing is written then.
            OSError: If the folder of the labels cannot be written; nothing is stored then.
        """
        reserved = SERVER_KEYS if origin.kind == "submitted" else frozenset()
        tag, notes = check_tag(tag), check_notes(notes, reserved=reserved)
        learnable = origin.kind in ("submitted", "model")
        arrived = self.checks.check(file, case, notes, begun_from=origin.begun_from, learnable=learnable)
        version = LabelVersion(
            case.id,
            tag,
            origin.kind,
            datetime.now(UTC).isoformat() if written is None else written,
            grid={"shape": list(arrived.grid.shape), "affine": arrived.grid.affine.tolist()},
            segments=arrived.segments,
            reader=origin.reader,
            client=origin.client,
            notes=notes,
            about={**origin.about, **(self._images(case) if origin.kind == "submitted" else {})},
        )
        before = self.log.version(case.id, tag)
        return Saved(self.log.append(version, file), before, arrived.warnings)

    def take(self, case: Case, file: Path, tag: str, *, written: str, sent: dict[str, Any]) -> bool:
        """Store a label that came from the PACS, unless the current label is as new or newer.

        Args:
            case: Case of the label; it may be quarantined.
            file: Label file.
            tag: Final or original.
            written: UTC in ISO 8601, which sorts by time; empty counts as the oldest.
            sent: UIDs of the SEG in the PACS, and its author.

        Returns:
            Whether the label was stored.

        Raises:
            UserError: If the label is invalid; nothing is written then.
        """
        there = self.log.version(case.id, tag)
        if there is not None and written <= there.written:
            return False
        origin = Origin("pacs", reader=str(sent.get("author", "")), client="PACS", about={"dicom_seg": sent})
        self.save(case, file, tag, {}, origin, written=written)
        return True

    def is_sent(self, version: LabelVersion) -> bool:
        """Whether the PACS has a SEG of this version."""
        return "dicom_seg" in version.about or self.log.files.beside(version, SENT).exists()

    def mark_sent(self, version: LabelVersion, sent: dict[str, Any]) -> None:
        """Record the SEG of a version in the PACS."""
        with replacing(self.log.files.beside(version, SENT)) as part:
            part.write_text(json.dumps(sent))

    def remove(self, case: Case, tag: str, *, reader: str = "") -> None:
        """Mark that a case has no saved label of this tag any more; its versions stay.

        Raises:
            UserError: If the server saved no label of this tag.
        """
        if self.log.version(case.id, tag) is None:
            raise UserError(
                f"the label of {case.id} lies beside its images; the server never deletes those. "
                "Set --conf study_labels ignore to leave them out."
            )
        self.log.append(
            LabelVersion(case.id, tag, "removed", datetime.now(UTC).isoformat(), reader=reader), None
        )

    def restore(self, case: Case, tag: str, number: int, *, reader: str = "") -> LabelVersion:
        """Make an earlier version current again, as a new version with the same file.

        Raises:
            UserError: If there is no such version, or it is a removal.
        """
        among = [each for each in self.log.of_case(case.id) if each.tag == tag and each.is_label]
        version = next((each for each in among if each.number == number), None)
        if version is None:
            numbers = ", ".join(str(each.number) for each in among) or "none"
            raise UserError(
                f"a version of the {tag} label of {case.id} must be one of {numbers}; got {number}."
            )
        return self._again(version, "restored", {"of": version.number, **self._images(case)}, reader=reader)

    def notes(self, case: Case, tag: str) -> dict[str, Any]:
        """Notes of a saved label as clients get them; empty if none of this tag was saved."""
        version = self.log.version(case.id, tag)
        if version is None:
            return {}
        by = {"reader": version.reader} if version.reader else {}
        sent = {"dicom_seg": found} if (found := self._sent(version)) else {}
        return {**version.notes, "written": version.written, "version": version.number, **by, **sent}

    def note(self, case: Case, tag: str, notes: Any) -> None:
        """Store a client's notes with a saved label, as a new version with the same file.

        Raises:
            UserError: If the notes are invalid, make the label unreadable, or no label of this tag is saved.
        """
        version = self.log.version(case.id, tag)
        if version is None:
            raise UserError(
                f"only a saved label can have notes; the label of {case.id} lies beside its images."
            )
        checked = {**version.notes, **check_notes(notes, reserved=SERVER_KEYS)}
        segments = version.segments
        if "label_info" in notes:
            segments = self.checks.check(self.log.files.file_of(version), case, checked).segments
        about = {"of": version.number, **{key: version.about[key] for key in {IMAGES} & version.about.keys()}}
        self._again(version, "noted", about, notes=checked, segments=segments)

    def _images(self, case: Case) -> dict[str, Any]:
        """Hashes of the images of a case, for `LabelVersion.about`; empty if they cannot be read."""
        found = self._image_hashes([case])
        return {IMAGES: dict(found[case.id])} if found else {}

    def _again(
        self, version: LabelVersion, kind: Kind, about: dict[str, Any], **changed: Any
    ) -> LabelVersion:
        """Append a version with the file of an earlier one."""
        now = datetime.now(UTC).isoformat()
        again = replace(version, kind=kind, number=0, written=now, about=about, **changed)
        return self.log.append(again, self.log.files.file_of(version))

    def _sent(self, version: LabelVersion) -> dict[str, Any]:
        """UIDs of the SEG of a version in the PACS; empty if there is none."""
        kept: dict[str, Any] = version.about.get("dicom_seg", {})
        file, consequence = self.log.files.beside(version, SENT), "The label is sent again."
        return kept or read_or_set_aside(file, dict[str, Any], consequence=consequence) or {}
