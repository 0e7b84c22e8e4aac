"""A folder of studies as a MONAI Label datastore; its image ids are cases."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Set
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from monailabel.interfaces.datastore import Datastore, DefaultLabelTag

from lib.atomic import replacing
from lib.cases.case import Case, CaseError, Source
from lib.cases.image import FILE_SUFFIXES, Volume, read_volume, suffix_of
from lib.cases.mirror import RemoteSeries
from lib.datastores.exports import Exports
from lib.datastores.labels import check_label, check_segments, imported, our_values, segments_of
from lib.datastores.register import Register
from lib.refusal import Refusal
from lib.site import Site

FINAL, ORIGINAL = DefaultLabelTag.FINAL.value, DefaultLabelTag.ORIGINAL.value
_RESERVED = {"id", "path", "name", "ts", "mdal", "case", "modality", "modalities"}  # keys of our answers
_OF_A_LABEL = {"written", "dicom_seg"}  # keys of ours among a label's notes
_TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


class CaseDatastore(Datastore):
    """Cases as images, labels under `labels/TAG/CASE.nii.gz`, both listed in datastore_v2.json.

    Every sibling of a case is an alias of it: a label saved for one is the case's label. A client's name is
    only ever looked up, so nothing outside the studies can be named.
    """

    def __init__(self, site: Site) -> None:
        """Serve a site's cases."""
        self.site = site
        self.labels_folder = site.studies / "labels"
        self._register = Register(site.studies / "datastore_v2.json")
        self._labelled: tuple[Any, Any, dict[str, Set[str]]] = (None, None, {})
        self._exports = Exports(
            site.work / "images",
            max_voxels=site.settings.max_voxels,
            max_bytes=int(site.settings.images_gb * 1e9),
        )

    def name(self) -> str:
        """Name that a person gave, or the folder's."""
        return str(self._register.content.get("name") or self.site.studies.name)

    def set_name(self, name: str) -> None:
        """Set the name."""
        self._register.change(lambda content: content.update(name=name))

    def description(self) -> str:
        """Description that a person gave."""
        return str(self._register.content.get("description", ""))

    def set_description(self, description: str) -> None:
        """Set the description."""
        self._register.change(lambda content: content.update(description=description))

    def list_images(self) -> list[str]:
        """Ids of the cases that are served."""
        return [case.id for case in self.site.served]

    def get_image_uri(self, image_id: str) -> str:
        """A uniquely named 3-D file: of the sibling that was named, else of the case's reference."""
        with _refusing():
            case, modality = self.resolve(image_id)
            return str(self._exports.file(case, modality))

    def image_place(self, image_id: str) -> str:
        """Where that file is, or will be: nothing is fetched or written for it now."""
        with _refusing():
            return str(self._exports.place(*self.resolve(image_id)))

    def get_image(self, image_id: str, params: Any = None) -> Any:
        """The same file, opened."""
        return Path(self.get_image_uri(image_id)).open("rb")

    def get_image_info(self, image_id: str) -> dict[str, Any]:
        """What clients show: the unique file name, the case, its modalities, and stored notes."""
        case, modality = self.resolve(image_id)
        stored = self._record(case).get("image", {}).get("info", {})
        source = case.modalities[modality]
        return {
            **stored,
            **(source.about() if isinstance(source, RemoteSeries) else {}),
            "name": self._exports.name(case, modality),
            "case": case.id,
            "modality": modality,
            "modalities": list(case.modalities),
        }

    def update_image_info(self, image_id: str, info: dict[str, Any]) -> None:
        """Store notes on a case.

        The stamp `strategy` that MONAI Label adds at each Next Sample is left out: the plan's events hold who
        was offered what, and the register is not rewritten for it.
        """
        notes = {key: value for key, value in _checked_json(info).items() if key != "strategy"}
        if reserved := sorted(notes.keys() & _RESERVED):
            raise Refusal(
                f"notes must not use the server's own keys; got {reserved[0]!r}. Choose another name."
            )
        if notes:
            case, _ = self.resolve(image_id)
            self._change(case, lambda record: record["image"]["info"].update(notes))

    def add_image(self, image_id: str, image_filename: str, image_info: dict[str, Any]) -> str:
        """Refused: a case is several files."""
        raise Refusal(
            "images must be put in the studies folder, all volumes of a case together; one file cannot be "
            "uploaded. Copy the case there and restart the server."
        )

    def remove_image(self, image_id: str) -> None:
        """Refused: the server changes nobody's images."""
        raise Refusal(
            "images must be removed in the studies folder by a person; the server never deletes them."
        )

    def labels_of(self, case: Case) -> dict[str, Path]:
        """File of each label by tag, saved ones before those found beside the images."""
        found = {
            tag: self._label_path(case, tag, label.get("ext", ".nii.gz"))
            for tag, label in self._record(case).get("labels", {}).items()
        }
        if case.label is not None and self.site.settings.study_labels != "ignore":
            found.setdefault(self.site.settings.study_labels, case.label)
        return found

    def get_labels_by_image_id(self, image_id: str) -> dict[str, str]:
        """Label id by tag; a case's label has the case's id."""
        case, _ = self.resolve(image_id)
        return {tag: case.id for tag in self.labels_of(case)}

    def get_label_by_image_id(self, image_id: str, tag: str) -> str:
        """Label id for a tag; empty where there is none."""
        return self.get_labels_by_image_id(image_id).get(tag, "")

    def get_label_uri(self, label_id: str, label_tag: str) -> str:
        """File of a label."""
        case, path = self._label(label_id, label_tag)
        return str(
            path
            if path.is_relative_to(self.labels_folder)
            else self._exports.label(case, path, self.site.decomposition)
        )

    def get_label(self, label_id: str, label_tag: str, params: Any = None) -> Any:
        """File of a label, opened."""
        return Path(self.get_label_uri(label_id, label_tag)).open("rb")

    def label_notes(self, case: Case, tag: str) -> dict[str, Any]:
        """What is kept with a saved label; empty where none of this tag was saved."""
        notes: dict[str, Any] = self._record(case).get("labels", {}).get(tag, {}).get("info", {})
        return notes

    def get_label_info(self, label_id: str, label_tag: str) -> dict[str, Any]:
        """What was stored with a label, and its file's name."""
        case, path = self._label(label_id, label_tag)
        return {**self.label_notes(case, label_tag), "name": f"{case.id}{suffix_of(path)}"}

    def update_label_info(self, label_id: str, label_tag: str, info: dict[str, Any]) -> None:
        """Store notes on a saved label."""
        case, path = self._label(label_id, label_tag)
        if not path.is_relative_to(self.labels_folder):
            raise Refusal(f"only a saved label can carry notes; {case.id}'s lies beside its images.")
        notes = _checked_notes(info)
        self._change(case, lambda record: record["labels"][label_tag]["info"].update(notes))

    def save_label(
        self, image_id: str, label_filename: str, label_tag: str, label_info: dict[str, Any]
    ) -> str:
        """Store a reader's label, or a model's, as it is, and when it was written.

        The file is in place before the register names it; both are replaced atomically.

        Raises:
            Refusal: If the tag, the image or the label cannot be; nothing is written then.
        """
        case, _ = self.resolve(image_id)
        info = {"written": datetime.now(UTC).isoformat(), **_checked_notes(label_info or {})}
        with _refusing():
            self._store(case, _checked_tag(label_tag), Path(label_filename), info, newer=False)
        return case.id

    def take_label(self, case: Case, file: Path, tag: str, *, written: str, sent: dict[str, Any]) -> bool:
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
            CaseError: If the label cannot be; nothing is written then.
        """
        return self._store(case, tag, file, {"written": written, "dicom_seg": sent}, newer=True)

    def mark_sent(self, case: Case, tag: str, sent: dict[str, Any]) -> None:
        """Keep with a label what the PACS knows it by; nothing if it was removed meanwhile."""

        def mark(record: dict[str, Any]) -> None:
            if tag in record["labels"]:
                record["labels"][tag]["info"]["dicom_seg"] = sent

        self._change(case, mark)

    def _store(self, case: Case, tag: str, file: Path, info: dict[str, Any], *, newer: bool) -> bool:
        """Put a label in place: the file, then the register, under one lock, so that they fit each other."""
        label = check_label(file, case, max_voxels=self.site.settings.max_voxels)
        check_segments(label, info, self.site.decomposition.labels)
        path, stored = self._label_path(case, tag, suffix_of(file)), False

        def put(record: dict[str, Any]) -> None:
            nonlocal stored
            there = record["labels"].get(tag)
            stored = not (newer and there and info["written"] <= there["info"].get("written", ""))
            if stored:
                with replacing(path) as part:
                    shutil.copyfile(file, part)
                record["labels"][tag] = {"ext": suffix_of(file), "info": info}

        def drop_others() -> None:
            for other in FILE_SUFFIXES if stored else ():
                if other != suffix_of(file):
                    self._label_path(case, tag, other).unlink(missing_ok=True)

        self._change(case, put, then=drop_others)
        return stored

    def remove_label(self, label_id: str, label_tag: str) -> None:
        """Remove a saved label; one beside the images is a person's file and stays."""
        case, path = self._label(label_id, label_tag)
        if not path.is_relative_to(self.labels_folder):
            raise Refusal(
                f"the label of {case.id} lies beside its images; the server never deletes those. "
                "Set --conf study_labels ignore to leave them out."
            )
        self._change(
            case,
            lambda record: record["labels"].pop(label_tag, None),
            then=lambda: path.unlink(missing_ok=True),
        )

    def get_labeled_images(self, label_tag: str | None = None, labels: list[str] | None = None) -> list[str]:
        """Ids of the cases with a label of this tag, `final` by default."""
        labelled = self.labelled(label_tag or FINAL)
        return [case_id for case_id in self.list_images() if case_id in labelled]

    def get_unlabeled_images(
        self, label_tag: str | None = None, labels: list[str] | None = None
    ) -> list[str]:
        """Ids of the served cases without a label of this tag."""
        labelled = self.labelled(label_tag or FINAL)
        return [case_id for case_id in self.list_images() if case_id not in labelled]

    def labelled(self, tag: str = FINAL) -> Set[str]:
        """Ids of all cases with a label of this tag. Not to be modified."""
        objects, pool = self._register.objects, self.site.pool
        known = self._labelled
        if known[0] is not objects or known[1] is not pool:  # both are replaced when they change
            self._labelled = known = (objects, pool, {})
        by_tag = known[2]
        if tag not in by_tag:
            saved = {id for id, record in objects.items() if tag in record.get("labels", {})}
            beside = {
                case.id
                for case in pool.cases
                if case.label is not None and self.site.settings.study_labels == tag
            }
            by_tag[tag] = (saved & pool.by_id.keys()) | beside
        return by_tag[tag]

    def read_label(self, case: Case, tag: str = FINAL) -> Volume:
        """A case's label with this app's values 1..n, uint8, on the grid that it was drawn on.

        Raises:
            CaseError: If the case has none, or it cannot be read.
        """
        path = self.labels_of(case).get(tag)
        if path is None:
            raise CaseError(f"case {case.id} must have a label tagged {tag}; it has none.")
        segments = segments_of(self.label_notes(case, tag))
        volume = read_volume(Source(path), max_voxels=self.site.settings.max_voxels)
        if not segments:
            volume = imported(volume, self.site.decomposition)
        return our_values(volume, self.site.decomposition.labels, segments)

    def datalist(self) -> list[dict[str, Any]]:
        """Image and final label of each labelled case."""
        return [
            {"image": self.get_image_uri(id), "label": self.get_label_uri(id, FINAL)}
            for id in self.get_labeled_images()
        ]

    def get_dataset_archive(self, limit_cases: int | None) -> str:
        """A ZIP of the labelled cases: every volume, the label, the register."""
        cases = [case for case in self.site.served if case.id in self.labelled()][:limit_cases]
        with tempfile.NamedTemporaryFile(prefix="dataset-", suffix=".zip", delete=False) as file:
            with zipfile.ZipFile(file, "w") as archive:
                for case in cases:
                    for modality in case.modalities:
                        volume = self._exports.file(case, modality)
                        archive.write(volume, f"{case.id}/{volume.name}")
                    label = self.labels_of(case)[FINAL]
                    archive.write(label, f"labels/final/{case.id}{suffix_of(label)}")
        return file.name

    def refresh(self) -> None:
        """Nothing to do: the register is read again whenever it changed."""

    def status(self) -> dict[str, Any]:
        """Counts that clients show as progress."""
        tags: dict[str, int] = {}
        for record in self._register.objects.values():
            for tag in record.get("labels", {}):
                tags[tag] = tags.get(tag, 0) + 1
        return {
            "total": len(self.site.served),
            "completed": len(self.labelled() - self.site.quarantined),
            "label_tags": tags,
            "quarantined": len(self.site.quarantined),
        }

    def json(self) -> dict[str, Any]:
        """Every served case with its labels, in MONAI Label's form."""
        objects = {}
        for case in self.site.served:
            objects[case.id] = {
                "image": {
                    "ext": suffix_of(Path(self._exports.name(case, self._reference(case)))),
                    "info": self.get_image_info(case.id),
                },
                "labels": {
                    tag: {
                        "ext": suffix_of(path),
                        "info": self.label_notes(case, tag),
                    }
                    for tag, path in self.labels_of(case).items()
                },
            }
        return {"name": self.name(), "description": self.description(), "objects": objects}

    def _reference(self, case: Case) -> str:
        return self.site.preparation.reference_of(case)

    def resolve(self, name: str) -> tuple[Case, str]:
        """The served case that a name means, and the sibling it names, else the case's reference.

        Raises:
            Refusal: 404 if no served case has this name.
        """
        with _refusing(status=404):
            case, modality = self.site.resolve(name)
            return case, modality or self._reference(case)

    def _label(self, label_id: str, tag: str) -> tuple[Case, Path]:
        case, _ = self.resolve(label_id)
        path = self.labels_of(case).get(_checked_tag(tag))
        if path is None:
            raise Refusal(f"case {case.id} has no label tagged {tag}.", status=404)
        return case, path

    def _label_path(self, case: Case, tag: str, suffix: str) -> Path:
        folder = self.labels_folder / tag
        if not folder.resolve().is_relative_to(self.site.studies):
            raise Refusal(
                f"labels tagged {tag} must lie in the studies folder; labels/{tag} is a link to elsewhere. "
                "Remove the link."
            )
        return folder / f"{case.id}{suffix}"

    def _record(self, case: Case) -> dict[str, Any]:
        return self._register.objects.get(case.id, {})

    def _change(self, case: Case, edit: Any, *, then: Callable[[], None] = lambda: None) -> None:
        def apply(content: dict[str, Any]) -> None:
            record = content["objects"].setdefault(case.id, {})
            record.setdefault("image", {}).setdefault("info", {})
            record.setdefault("labels", {})
            edit(record)

        self._register.change(apply, then=then)


def _checked_notes(info: dict[str, Any]) -> dict[str, Any]:
    """Notes on a label, as a client may give them."""
    notes = _checked_json(info)
    if ours := sorted(notes.keys() & _OF_A_LABEL):
        raise Refusal(
            f"notes on a label must not use the server's own keys; got {ours[0]!r}. Choose another name."
        )
    return notes


def _checked_json(value: Any) -> dict[str, Any]:
    """What a client sent, if every client can be sent it again."""
    if not isinstance(value, dict):
        raise Refusal(f"what is stored with a case must be a JSON object; got {type(value).__name__}.")
    try:
        json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
    except ValueError as err:  # NaN, infinity, or half a character
        raise Refusal("what is stored with a case must be finite numbers and whole characters.") from err
    return value


def _checked_tag(tag: Any) -> str:
    if not isinstance(tag, str) or not _TAG.fullmatch(tag):
        raise Refusal(f"a label's tag must be letters, digits, dash and underscore; got {str(tag)[:80]!r}.")
    return tag


@contextmanager
def _refusing(*, status: int = 400) -> Iterator[None]:
    """Turn a domain error into what a client understands."""
    try:
        yield
    except CaseError as err:
        raise Refusal(str(err), status=status) from err
