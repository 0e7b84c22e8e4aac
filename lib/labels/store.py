"""Label files of the cases, and the notes stored with each label."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from collections.abc import Callable, Sequence, Set
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lib.cases.case import Case, Source
from lib.cases.discovery.found_pool import FoundPool
from lib.cases.formats.image import FILE_SUFFIXES, Volume, read_label_map, read_segments, suffix_of
from lib.cases.formats.voxels import IGNORED, present_values
from lib.labels.meaning import LabelMeanings, renumbered
from lib.labels.notes import check_notes
from lib.labels.register import Register, Staged
from lib.labels.values import check_label, check_segments, our_values, segments_of
from lib.runtime.errors import UserError
from lib.runtime.files import make_durable, part_of

FINAL, ORIGINAL = "final", "original"  # MONAI Label's tags for a reader's label and a model's label
SERVER_KEYS = {"written", "dicom_seg"}  # notes that only the server writes
_TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


class LabelStore:
    """Labels saved as `labels/TAG/CASE.nii.gz`, and contours beside the images.

    A contour beside the images has the tag of the setting `study_labels`. Notes on cases and labels are
    stored in the register, datastore_v2.json.
    """

    def __init__(
        self,
        found: FoundPool,
        register: Register,
        folder: Path,
        *,
        meanings: LabelMeanings,
        study_labels: str,
        max_voxels: int,
        held: Callable[[], frozenset[str]] = frozenset,
    ) -> None:
        """Open the labels of a pool.

        Args:
            found: Pool of the cases.
            register: Register of the labels and notes.
            folder: Folder of the label files.
            meanings: Meaning of the values in label files.
            study_labels: Tag of the contours beside the images.
            max_voxels: Largest number of voxels of a label.
            held: Ids of the cases whose contour beside the images is held back; the set is replaced when it
                changes.
        """
        self.folder, self.meanings, self.numbering = folder, meanings, meanings.numbering
        self._found, self._beside, self._max_voxels = found, study_labels, max_voxels
        self._register, self._held = register, held
        self._labelled: tuple[Any, Any, Any, dict[str, Set[str]]] = (None, None, None, {})

    def files_of(self, case: Case) -> dict[str, Path]:
        """Label files of a case by tag; a saved label hides a contour beside the images with its tag.

        Raises:
            UserError: If a label folder is a link to outside the studies folder.
        """
        found = {
            tag: self._path(case, tag, label.get("ext", ".nii.gz"))
            for tag, label in self._record(case).get("labels", {}).items()
        }
        if case.label is not None and case.id not in self._held():
            found.setdefault(self._beside, case.label)
        return found

    def is_saved(self, file: Path) -> bool:
        """Whether the server saved this label file; otherwise it lies beside the images and is not ours."""
        return file.is_relative_to(self.folder)

    def labelled(self, tag: str = FINAL) -> Set[str]:
        """Ids of all cases with a label of this tag; callers must not modify the set."""
        objects, pool, held = self._register.objects, self._found.pool, self._held()
        known = self._labelled
        if known[0] is not objects or known[1] is not pool or known[2] is not held:  # replaced on change
            self._labelled = known = (objects, pool, held, {})
        by_tag = known[3]
        if tag not in by_tag:
            saved = {id for id, record in objects.items() if tag in record.get("labels", {})}
            beside = {case.id for case in pool.cases if case.label is not None and self._beside == tag}
            by_tag[tag] = (saved & pool.by_id.keys()) | (beside - held)
        return by_tag[tag]

    def counts(self) -> dict[str, int]:
        """Number of saved labels by tag."""
        records = self._register.objects.values()
        return dict(Counter(tag for record in records for tag in record.get("labels", {})))

    def read(self, case: Case, tag: str = FINAL, *, with_ignored: bool = False) -> Volume:
        """Label of a case with this app's values 1..n, uint8, on the grid that it was outlined on.

        Args:
            case: Case of the label.
            tag: Tag of the label.
            with_ignored: Whether voxels that nobody annotated are `IGNORED`, for training, or else 0.

        Raises:
            UserError: If the case has no label of this tag, or the label cannot be read.
        """
        path = self.files_of(case).get(tag)
        if path is None:
            raise UserError(f"case {case.id} must have a label tagged {tag}; it has none.")
        volume = read_label_map(Source(path), max_voxels=self._max_voxels)
        if self.is_saved(path):
            return self._read_saved(
                case, volume, segments_of(self.notes(case, tag)) or read_segments(Source(path))
            )
        table = self.meanings.of(
            case.id, present_values(volume.array), read_segments(Source(path)), ignored=case.ignored
        )
        if not with_ignored:
            table = {theirs: ours for theirs, ours in table.items() if ours != IGNORED}
        return renumbered(volume, table)

    def _read_saved(self, case: Case, volume: Volume, segments: Sequence[tuple[str, int]]) -> Volume:
        """Label that a client sent: segments by their names, else this app's values."""
        values, own = present_values(volume.array), set(self.numbering.labels.values())
        if segments or values <= own:
            return our_values(volume, self.numbering.labels, segments)
        table = self.meanings.of(case.id, values)
        if moved := sorted(value for value in values & own if table[value] != value):
            raise UserError(
                f"a label without names of segments must have the values {dict(self.numbering.labels)}; it "
                f"also holds {sorted(values - own)}, and in the edition that {case.id} is named for, {moved} "
                "mean others. Send it with the names of its segments."
            )
        return renumbered(volume, table)

    def save(self, case: Case, file: Path, tag: str, notes: Any) -> None:
        """Store a label unchanged, with a client's notes and the current time.

        Raises:
            UserError: If the tag, the notes or the label are invalid; nothing is written then.
        """
        info = {"written": datetime.now(UTC).isoformat(), **check_notes(notes, reserved=SERVER_KEYS)}
        self._put(case, check_tag(tag), file, info, newer=False)

    def take(self, case: Case, file: Path, tag: str, *, written: str, sent: dict[str, Any]) -> bool:
        """Store a label that came from the PACS, unless the stored label is as new or newer.

        Args:
            case: Case of the label; it may be quarantined.
            file: Label file.
            tag: Final or original.
            written: UTC in ISO 8601, which sorts by time; empty counts as the oldest.
            sent: UIDs of the SEG in the PACS, its author, and the time of the label it belongs to.

        Returns:
            Whether the label was stored.

        Raises:
            UserError: If the label is invalid; nothing is written then.
        """
        return self._put(case, tag, file, {"written": written, "dicom_seg": sent}, newer=True)

    def mark_sent(self, case: Case, tag: str, sent: dict[str, Any]) -> None:
        """Record the SEG of a label in the PACS; does nothing if the label was removed meanwhile."""

        def mark(record: dict[str, Any]) -> None:
            if tag in record["labels"]:
                record["labels"][tag]["info"]["dicom_seg"] = sent

        self._change(case, mark)

    def remove(self, case: Case, tag: str) -> None:
        """Remove a saved label; a contour beside the images is never removed.

        Raises:
            UserError: If the server saved no label of this tag.
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
        """Notes of a saved label; empty if none of this tag was saved."""
        notes: dict[str, Any] = self._record(case).get("labels", {}).get(tag, {}).get("info", {})
        return notes

    def note(self, case: Case, tag: str, notes: Any) -> None:
        """Store a client's notes with a saved label.

        Raises:
            UserError: If the notes are invalid, make the label unreadable, or no label of this tag is saved.
        """
        if tag not in self._record(case).get("labels", {}):
            raise UserError(
                f"only a saved label can have notes; the label of {case.id} lies beside its images."
            )
        checked = check_notes(notes, reserved=SERVER_KEYS)
        if "label_info" in checked:
            stored = Source(self.files_of(case)[tag], display_name="the label")
            label = read_label_map(stored, max_voxels=self._max_voxels)
            check_segments(label, checked, self.numbering.labels)
        self._change(case, lambda record: record["labels"][tag]["info"].update(checked))

    def case_notes(self, case: Case) -> dict[str, Any]:
        """Notes on a case."""
        notes: dict[str, Any] = self._record(case).get("image", {}).get("info", {})
        return notes

    def note_case(self, case: Case, notes: dict[str, Any]) -> None:
        """Store notes on a case."""
        self._change(case, lambda record: record["image"]["info"].update(notes))

    @property
    def title(self) -> dict[str, Any]:
        """Name and description that a user gave the studies, if any."""
        content = self._register.content
        return {key: content[key] for key in ("name", "description") if key in content}

    def set_title(self, **title: str) -> None:
        """Store the `name` or `description` of the studies."""
        self._register.change(lambda content: content.update(title))

    def _put(self, case: Case, tag: str, file: Path, info: dict[str, Any], *, newer: bool) -> bool:
        """Store a label file and its notes together: both are old or both are new."""
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
    """Copy of a file beside `path`, durable before the register mentions it."""
    part = part_of(path)
    try:
        shutil.copyfile(file, part)
        make_durable(part)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    return part


def check_tag(tag: Any) -> str:
    """Check that a tag is a valid folder name, and return it.

    Raises:
        UserError: If the tag is not valid.
    """
    if not isinstance(tag, str) or not _TAG.fullmatch(tag):
        raise UserError(f"a label's tag must be letters, digits, dash and underscore; got {str(tag)[:80]!r}.")
    return tag
