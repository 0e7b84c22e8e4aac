"""A folder of studies as a MONAI Label datastore; its image ids are cases."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from monailabel.interfaces.datastore import Datastore

from lib.cases.case import Case
from lib.cases.dicomweb.mirror import RemoteSeries
from lib.cases.formats.image import MAX_VOXELS, suffix_of
from lib.labels.notes import check_notes
from lib.labels.origin import Origin, Saved
from lib.labels.store import FINAL, ORIGINAL, SERVER_KEYS
from lib.labels.versions import check_tag
from lib.pipeline.disk import disk_bytes
from lib.pipeline.workspace import Workspace
from lib.runtime.errors import UserError
from lib.runtime.temporary import new_file
from lib.server.dataset_archive import write_archive
from lib.server.errors import ClientError, client_error
from lib.server.image_files import ImageFiles

__all__ = ["FINAL", "ORIGINAL", "CaseDatastore"]
# Keys that our own answers use, and keys that only the server writes.
MAX_NAME = 160  # characters of a reader's name
_RESERVED = {"id", "path", "name", "ts", "mdal", "case", "modality", "modalities", *SERVER_KEYS}


class CaseDatastore(Datastore):
    """MONAI Label's datastore interface over a workspace and its label store.

    Each volume of a case is an alias of the case: a label saved for a volume is the case's label. A name from
    a client is only looked up, so no client can name a file outside the studies.
    """

    def __init__(self, workspace: Workspace) -> None:
        """Serve the cases of a workspace."""
        self.workspace = workspace
        self.labels = workspace.labels
        self._image_files = ImageFiles(
            workspace.folders.work / "images",
            max_voxels=MAX_VOXELS,
            max_bytes=disk_bytes(workspace.settings, "images"),
        )

    def name(self) -> str:
        """Name that a person gave, otherwise the folder's name."""
        return str(self.labels.register.title.get("name") or self.workspace.folders.studies.name)

    def set_name(self, name: str) -> None:
        """Set the name."""
        self.labels.register.set_title(name=name)

    def description(self) -> str:
        """Description that a person gave."""
        return str(self.labels.register.title.get("description", ""))

    def set_description(self, description: str) -> None:
        """Set the description."""
        self.labels.register.set_title(description=description)

    def list_images(self) -> list[str]:
        """Ids of the served cases."""
        return [case.id for case in self.workspace.verdicts.served]

    def get_image_uri(self, image_id: str) -> str:
        """Uniquely named 3-D file of the named volume, or of the case's reference."""
        with _client_errors():
            case, modality = self.resolve(image_id)
            return str(self._image_files.file(case, modality))

    def image_place(self, image_id: str) -> str:
        """Path of that file, without fetching or writing anything."""
        with _client_errors():
            return str(self._image_files.place(*self.resolve(image_id)))

    def get_image(self, image_id: str, params: Any = None) -> Any:
        """The file of `get_image_uri`, opened."""
        return Path(self.get_image_uri(image_id)).open("rb")

    def get_image_info(self, image_id: str) -> dict[str, Any]:
        """Facts that clients show: the unique file name, the case, its modalities and the stored notes."""
        case, modality = self.resolve(image_id)
        source = case.modalities[modality]
        return {
            **self.labels.register.notes_of(case.id),
            **(source.about() if isinstance(source, RemoteSeries) else {}),
            "name": self._image_files.name(case, modality),
            "case": case.id,
            "modality": modality,
            "modalities": list(case.modalities),
        }

    def update_image_info(self, image_id: str, info: dict[str, Any]) -> None:
        """Store notes on a case.

        The note `strategy` that MONAI Label adds at each Next Sample is dropped: the plan's history already
        records every offer, and the register need not be rewritten for it.
        """
        with _client_errors():
            checked = check_notes(info, reserved=_RESERVED)
            if notes := {key: value for key, value in checked.items() if key != "strategy"}:
                self.labels.register.note(self.resolve(image_id)[0].id, notes)

    def add_image(self, image_id: str, image_filename: str, image_info: dict[str, Any]) -> str:
        """Refuse: a case is several files."""
        raise ClientError(
            "images must be put in the studies folder, all volumes of a case together; one file cannot be "
            "uploaded. Copy the case there and restart the server."
        )

    def remove_image(self, image_id: str) -> None:
        """Refuse: the server never changes images."""
        raise ClientError(
            "images must be removed in the studies folder by a person; the server never deletes them."
        )

    def labels_of(self, case: Case) -> dict[str, Path]:
        """File of each label by tag; saved labels come before those found beside the images."""
        with _client_errors():
            return self.labels.files_of(case)

    def get_labels_by_image_id(self, image_id: str) -> dict[str, str]:
        """Label ids by tag; a label has the id of its case."""
        case, _ = self.resolve(image_id)
        return {tag: case.id for tag in self.labels_of(case)}

    def get_label_by_image_id(self, image_id: str, tag: str) -> str:
        """Label id for a tag; empty if there is no label."""
        return self.get_labels_by_image_id(image_id).get(tag, "")

    def get_label_uri(self, label_id: str, label_tag: str) -> str:
        """File of a label."""
        case, path = self._label(label_id, label_tag)
        if self.labels.is_saved(path):
            return str(path)
        return str(self._image_files.label(case, path, self.labels, label_tag))

    def get_label(self, label_id: str, label_tag: str, params: Any = None) -> Any:
        """File of a label, opened."""
        return Path(self.get_label_uri(label_id, label_tag)).open("rb")

    def get_label_info(self, label_id: str, label_tag: str) -> dict[str, Any]:
        """Notes stored with a label, and its file name."""
        case, path = self._label(label_id, label_tag)
        return {**self.labels.notes(case, label_tag), "name": f"{case.id}{suffix_of(path)}"}

    def update_label_info(self, label_id: str, label_tag: str, info: dict[str, Any]) -> None:
        """Store notes on a saved label."""
        case, _ = self._label(label_id, label_tag)
        with _client_errors():
            self.labels.note(case, label_tag, info)

    def save_label(
        self, image_id: str, label_filename: str, label_tag: str, label_info: dict[str, Any]
    ) -> str:
        """Store a label of a reader or a model unchanged, with the time of writing.

        Raises:
            ClientError: If the tag, the image or the label is not valid; nothing is written then.
        """
        self.submit(image_id, Path(label_filename), label_tag, label_info or {})
        return self.resolve(image_id)[0].id

    def submit(self, image_id: str, file: Path, tag: str, notes: Any, origin: Origin | None = None) -> Saved:
        """Store a label as a new version.

        Args:
            image_id: Id of the case or of the image that the label was drawn on.
            file: Label file, stored unchanged.
            tag: Tag of the label.
            notes: Notes of the client.
            origin: Who sent it, and from what it began; by default the reader is the client's id.

        Raises:
            ClientError: If the tag, the image or the label is not valid; nothing is written then.
        """
        case, modality = self.resolve(image_id)
        origin = origin or Origin(reader=reader_of(notes))
        with _client_errors():
            about = {"image": f"{case.id}_{modality}", **origin.about}
            return self.labels.save(case, file, tag, notes, replace(origin, about=about))

    def remove_label(self, label_id: str, label_tag: str) -> None:
        """Mark a saved label as removed; a label beside the images belongs to a person and stays."""
        case, _ = self._label(label_id, label_tag)
        with _client_errors():
            self.labels.remove(case, label_tag)

    def get_labeled_images(self, label_tag: str | None = None, labels: list[str] | None = None) -> list[str]:
        """Ids of the served cases with a label of this tag, `final` by default."""
        labelled = self.labelled(label_tag or FINAL)
        return [case_id for case_id in self.list_images() if case_id in labelled]

    def get_unlabeled_images(
        self, label_tag: str | None = None, labels: list[str] | None = None
    ) -> list[str]:
        """Ids of the served cases without a label of this tag, `final` by default."""
        labelled = self.labelled(label_tag or FINAL)
        return [case_id for case_id in self.list_images() if case_id not in labelled]

    def labelled(self, tag: str = FINAL) -> Set[str]:
        """Ids of all cases with a label of this tag; callers must not modify the set."""
        return self.labels.labelled(tag)

    def datalist(self) -> list[dict[str, Any]]:
        """Image and final label of each labelled case."""
        with self.labels.log.one_state():
            return [
                {"image": self.get_image_uri(id), "label": self.get_label_uri(id, FINAL)}
                for id in self.get_labeled_images()
            ]

    def get_dataset_archive(self, limit_cases: int | None) -> str:
        """A ZIP of the labelled cases: every volume, every version of the labels, the register."""
        labelled = self.labelled()
        cases = [case for case in self.workspace.verdicts.served if case.id in labelled][:limit_cases]
        with new_file("dataset-", ".zip") as file, _client_errors():
            write_archive(file, self, cases)
        return str(file)

    def refresh(self) -> None:
        """Do nothing: the register is reread whenever it changes."""

    def status(self) -> dict[str, Any]:
        """Counts that clients show as progress."""
        return {
            "total": len(self.workspace.verdicts.served),
            "completed": len(self.labelled() - self.workspace.verdicts.quarantined),
            "label_tags": self.labels.counts(),
            "quarantined": len(self.workspace.verdicts.quarantined),
        }

    def json(self, cases: Sequence[Case] | None = None) -> dict[str, Any]:
        """Cases with their labels, in MONAI Label's form; by default every served case."""
        listed = self.workspace.verdicts.served if cases is None else cases
        with self.labels.log.one_state():
            objects = {case.id: self._json_of(case) for case in listed}
        return {"name": self.name(), "description": self.description(), "objects": objects}

    def _json_of(self, case: Case) -> dict[str, Any]:
        return {
            "image": {
                "ext": suffix_of(Path(self._image_files.name(case, self._reference(case)))),
                "info": self.get_image_info(case.id),
            },
            "labels": {
                tag: {"ext": suffix_of(path), "info": self.labels.notes(case, tag)}
                for tag, path in self.labels_of(case).items()
            },
        }

    def _reference(self, case: Case) -> str:
        return self.workspace.preparation.reference_of(case)

    def resolve(self, name: str) -> tuple[Case, str]:
        """The served case and the modality that a name refers to; the reference where it names no volume.

        Raises:
            ClientError: 404 if no served case has this name.
        """
        with _client_errors(status=404):
            case, modality = self.workspace.verdicts.resolve(name)
            return case, modality or self._reference(case)

    def _label(self, label_id: str, tag: str) -> tuple[Case, Path]:
        case, _ = self.resolve(label_id)
        with _client_errors():
            path = self.labels.files_of(case).get(check_tag(tag))
        if path is None:
            raise ClientError(f"case {case.id} has no label tagged {tag}.", status=404)
        return case, path


def reader_of(notes: Any) -> str:
    """Name of the reader as clients send it with a label; empty if they send none."""
    name = notes.get("client_id") if isinstance(notes, Mapping) else None
    return name if isinstance(name, str) and name.isprintable() and len(name) <= MAX_NAME else ""


@contextmanager
def _client_errors(*, status: int = 400) -> Iterator[None]:
    """Turn a `UserError` into a `ClientError`."""
    try:
        yield
    except UserError as err:
        raise client_error(err, status=status) from err
