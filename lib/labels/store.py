"""The labels of the cases: their files, and what is kept with each."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from collections.abc import Callable, Set
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lib.cases.case import Case, Source
from lib.cases.discovery.found_pool import FoundPool
from lib.cases.formats.image import FILE_SUFFIXES, Volume, read_label_map, suffix_of
from lib.labels.notes import check_notes
from lib.labels.register import Register, Staged
from lib.labels.values import Numbering, check_label, check_segments, imported, our_values, segments_of
from lib.runtime.errors import UserError
from lib.runtime.files import make_durable, part_of

FINAL, ORIGINAL = "final", "original"  # MONAI Label's tags: a reader's, a model's
_OURS = {"written", "dicom_seg"}  # keys of the server's own among a label's notes
_TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


class LabelStore:
    """Saved labels lie under `labels/TAG/CASE.nii.gz`; a contour beside the images counts as the site says.

    Notes on a case are kept in the same register, datastore_v2.json.
    """

    def __init__(
        self,
        found: FoundPool,
        register: Register,
        folder: Path,
        *,
        numbering: Numbering,
        study_labels: str,
        max_voxels: int,
    ) -> None:
        """Keep the labels of the cases.

        Args:
            found: The cases.
            register: Lists the labels and holds the notes.
            folder: Of the label files.
            numbering: What their values mean.
            study_labels: Tag of the contours that lie beside the images; `ignore` leaves them out.
            max_voxels: Of a label.
        """
        self.folder, self.numbering = folder, numbering
        self._found, self._beside, self._max_voxels = found, study_labels, max_voxels
        self._register = register
        self._labelled: tuple[Any, Any, dict[str, Set[str]]] = (None, None, {})

    def files_of(self, case: Case) -> dict[str, Path]:
        """File of each label by tag, saved ones before those found beside the images.

        Raises:
            UserError: If a folder of labels is a link to elsewhere.
        """
        found = {
            tag: self._path(case, tag, label.get("ext", ".nii.gz"))
            for tag, label in self._record(case).get("labels", {}).items()
        }
        if case.label is not None and self._beside != "ignore":
            found.setdefault(self._beside, case.label)
        return found

    def is_saved(self, file: Path) -> bool:
        """Whether a label's file was saved here; another one lies beside the images and is a person's."""
        return file.is_relative_to(self.folder)

    def labelled(self, tag: str = FINAL) -> Set[str]:
        """Ids of all cases with a label of this tag. Not to be modified."""
        objects, pool = self._register.objects, self._found.pool
        known = self._labelled
        if known[0] is not objects or known[1] is not pool:  # both are replaced when they change
            self._labelled = known = (objects, pool, {})
        by_tag = known[2]
        if tag not in by_tag:
            saved = {id for id, record in objects.items() if tag in record.get("labels", {})}
            beside = {case.id for case in pool.cases if case.label is not None and self._beside == tag}
            by_tag[tag] = (saved & pool.by_id.keys()) | beside
        return by_tag[tag]

    def counts(self) -> dict[str, int]:
        """How many labels of each tag were saved."""
        records = self._register.objects.values()
        return dict(Counter(tag for record in records for tag in record.get("labels", {})))

    def read(self, case: Case, tag: str = FINAL) -> Volume:
        """A case's label with this app's values 1..n, uint8, on the grid that it was drawn on.

        Raises:
            UserError: If the case has none, or it cannot be read.
        """
        path = self.files_of(case).get(tag)
        if path is None:
            raise UserError(f"case {case.id} must have a label tagged {tag}; it has none.")
        segments = segments_of(self.notes(case, tag))
        volume = read_label_map(Source(path), max_voxels=self._max_voxels)
        if not segments:
            volume = imported(volume, self.numbering)
        return our_values(volume, self.numbering.labels, segments)

    def save(self, case: Case, file: Path, tag: str, notes: Any) -> None:
        """Store a label as it is, with a client's notes and when it was written.

        Raises:
            UserError: If the tag, the notes or the label cannot be; nothing is written then.
        """
        info = {"written": datetime.now(UTC).isoformat(), **check_notes(notes, reserved=_OURS)}
        self._put(case, check_tag(tag), file, info, newer=False)

    def take(self, case: Case, file: Path, tag: str, *, written: str, sent: dict[str, Any]) -> bool:
        """Store a label that came from the PACS, unless the one that is there is as new.

        Args:
            case: Of which, quarantined or not.
            file: The label.
            tag: Final or original.
            written: UTC in ISO 8601, which sorts by time; empty for the oldest.
            sent: What the PACS knows it by.

        Returns:
            Whether it was stored.

        Raises:
            UserError: If the label cannot be; nothing is written then.
        """
        return self._put(case, tag, file, {"written": written, "dicom_seg": sent}, newer=True)

    def mark_sent(self, case: Case, tag: str, sent: dict[str, Any]) -> None:
        """Keep with a label what the PACS knows it by; nothing if it was removed meanwhile."""

        def mark(record: dict[str, Any]) -> None:
            if tag in record["labels"]:
                record["labels"][tag]["info"]["dicom_seg"] = sent

        self._change(case, mark)

    def remove(self, case: Case, tag: str) -> None:
        """Remove a saved label; one beside the images is a person's file and stays.

        Raises:
            UserError: If none was saved here.
        """
        file = self.files_of(case).get(tag)
        if file is None or not self.is_saved(file):
            raise UserError(
                f"the label of {case.id} lies beside its images; the server never deletes those. "
                "Set --conf study_labels ignore to leave them out."
            )

        def drop(record: dict[str, Any]) -> Staged:
            record["labels"].pop(tag, None)
            return Staged(part_of(file), gone=(file,))

        self._change(case, drop)

    def notes(self, case: Case, tag: str) -> dict[str, Any]:
        """What is kept with a saved label; empty where none of this tag was saved."""
        notes: dict[str, Any] = self._record(case).get("labels", {}).get(tag, {}).get("info", {})
        return notes

    def note(self, case: Case, tag: str, notes: Any) -> None:
        """Keep a client's notes with a saved label.

        Raises:
            UserError: If the notes cannot be, or none was saved here.
        """
        if tag not in self._record(case).get("labels", {}):
            raise UserError(f"only a saved label can carry notes; {case.id}'s lies beside its images.")
        checked = check_notes(notes, reserved=_OURS)
        self._change(case, lambda record: record["labels"][tag]["info"].update(checked))

    def case_notes(self, case: Case) -> dict[str, Any]:
        """What is kept of a case beside its labels."""
        notes: dict[str, Any] = self._record(case).get("image", {}).get("info", {})
        return notes

    def note_case(self, case: Case, notes: dict[str, Any]) -> None:
        """Keep notes on a case."""
        self._change(case, lambda record: record["image"]["info"].update(notes))

    @property
    def title(self) -> dict[str, Any]:
        """Name and description that a person gave the studies, where one did."""
        content = self._register.content
        return {key: content[key] for key in ("name", "description") if key in content}

    def set_title(self, **title: str) -> None:
        """Keep the studies' `name` or `description`."""
        self._register.change(lambda content: content.update(title))

    def _put(self, case: Case, tag: str, file: Path, info: dict[str, Any], *, newer: bool) -> bool:
        """Put a label in place, file and notes together: both are the old ones or the new ones."""
        label = check_label(file, case, max_voxels=self._max_voxels)
        check_segments(label, info, self.numbering.labels)
        suffix, stored = suffix_of(file), False
        path = self._path(case, tag, suffix)
        if path.is_dir():
            raise UserError(f"labels must be files; {path} is a folder. Move it away.")

        def put(record: dict[str, Any]) -> Staged | None:
            nonlocal stored
            there = record["labels"].get(tag)
            stored = not (newer and there and info["written"] <= there["info"].get("written", ""))
            if not stored:
                return None
            record["labels"][tag] = {"ext": suffix, "info": info}
            others = tuple(self._path(case, tag, other) for other in FILE_SUFFIXES if other != suffix)
            return Staged(_copied(file, path), path, gone=others)

        self._change(case, put)
        return stored

    def _path(self, case: Case, tag: str, suffix: str) -> Path:
        folder = self.folder / tag
        if not folder.resolve().is_relative_to(self.folder.parent):
            raise UserError(
                f"labels tagged {tag} must lie in the studies folder; labels/{tag} is a link to elsewhere. "
                "Remove the link."
            )
        return folder / f"{case.id}{suffix}"

    def _record(self, case: Case) -> dict[str, Any]:
        return self._register.objects.get(case.id, {})

    def _change(self, case: Case, edit: Callable[[dict[str, Any]], Staged | None]) -> None:
        def apply(content: dict[str, Any]) -> Staged | None:
            record = content["objects"].setdefault(case.id, {})
            record.setdefault("image", {}).setdefault("info", {})
            for label in record.setdefault("labels", {}).values():
                label.setdefault("info", {})
            return edit(record)

        self._register.change(apply)


def _copied(file: Path, path: Path) -> Path:
    """A copy beside `path`, on the disk before anything says that it is there."""
    part = part_of(path)
    try:
        shutil.copyfile(file, part)
        make_durable(part)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    return part


def check_tag(tag: Any) -> str:
    """A tag, after which a folder can be named.

    Raises:
        UserError: If it is none.
    """
    if not isinstance(tag, str) or not _TAG.fullmatch(tag):
        raise UserError(f"a label's tag must be letters, digits, dash and underscore; got {str(tag)[:80]!r}.")
    return tag
