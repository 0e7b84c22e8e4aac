"""ZIP of the labelled cases: every volume, every version of the labels, and the register of both."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lib.cases.case import Case
from lib.cases.formats.image import suffix_of
from lib.labels.store import FINAL

if TYPE_CHECKING:
    from lib.server.datastore import CaseDatastore

REGISTER = "datastore_v2.json"  # MONAI Label's name


def write_archive(file: Path, datastore: CaseDatastore, cases: Sequence[Case]) -> None:
    """Write the archive of labelled cases.

    The register is MONAI Label's; in it, each label has the path of its file, the value of each structure in
    that file (clients number structures as they like), and its versions.

    Raises:
        UserError: If an image or a label cannot be read.
    """
    register = datastore.json(cases)
    register["label_names"] = dict(datastore.workspace.decomposition.labels)
    with zipfile.ZipFile(file, "w") as archive:
        for case in cases:
            for modality in case.modalities:
                volume = Path(datastore.get_image_uri(f"{case.id}/{modality}"))
                archive.write(volume, f"{case.id}/{volume.name}")
            labels = register["objects"][case.id]["labels"]
            labels[FINAL] |= _add_label(archive, datastore, case)
        archive.writestr(REGISTER, json.dumps(register, allow_nan=False, indent=1))


def _add_label(archive: zipfile.ZipFile, datastore: CaseDatastore, case: Case) -> dict[str, Any]:
    """Add the final label of a case and its versions; returns what the register says of them."""
    current = datastore.labels.log.version(case.id, FINAL)
    label = Path(datastore.get_label_uri(case.id, FINAL))
    name = f"labels/{FINAL}/{case.id}{suffix_of(label)}"
    archive.write(label, name)
    versions = []
    for version in datastore.labels.log.of_case(case.id):
        known = {"archived": ""}
        if version.tag == FINAL and version.is_label:
            known["archived"] = f"labels/{FINAL}/{case.id}/{version.number:04}/{version.file}"
            archive.write(datastore.labels.log.files.file_of(version), known["archived"])
        versions.append({**asdict(version), **known})
    values = dict(current.segments) if current else dict(datastore.workspace.decomposition.labels)
    return {"file": name, "values": values, "versions": versions}
