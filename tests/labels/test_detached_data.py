"""A header that names another file never makes the server open it: not a label, not an image."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from fastapi import UploadFile
from monailabel.config import settings
from monailabel.interfaces.utils import app as loaded

from lib.cases.formats.image import read_volume
from lib.pipeline.settings import read_settings
from lib.pipeline.workspace import Workspace
from lib.runtime.errors import UserError
from lib.server.boundary.uploads import save_label
from lib.server.datastore import CaseDatastore
from lib.server.errors import ClientError
from tests.support.images import write_image
from tests.support.pools import open_datastore

SHAPE = (8, 7, 6)
_opened: list[str] | None = None


def _note(event: str, arguments: tuple[Any, ...]) -> None:
    if _opened is not None and event == "open":
        _opened.append(str(arguments[0]))


sys.addaudithook(_note)  # Python has no way to take it back; it does nothing outside `opened_files`


@contextmanager
def opened_files() -> Iterator[list[str]]:
    """Every file that Python opens meanwhile."""
    global _opened  # noqa: PLW0603
    _opened = []
    try:
        yield _opened
    finally:
        _opened = None


def nrrd(line: str) -> bytes:
    return (
        "NRRD0004\ntype: uchar\ndimension: 3\nspace: left-posterior-superior\nsizes: 8 7 6\n"
        "space directions: (1,0,0) (0,1,0) (0,0,1)\nspace origin: (0,0,0)\nencoding: raw\n" + line + "\n\n"
    ).encode()


def metaimage(where: str) -> bytes:
    return (
        "ObjectType = Image\nNDims = 3\nDimSize = 8 7 6\nElementType = MET_UCHAR\n"
        f"ElementSpacing = 1 1 1\nElementDataFile = {where}\n"
    ).encode()


def analyze() -> bytes:
    """A NIfTI header whose voxels are in the .img beside it."""
    header = nib.Nifti1Pair(np.zeros(SHAPE, np.uint8), np.eye(4)).header
    return bytes(header.binaryblock)


DETACHED = {
    "label.nrrd": nrrd("data file: {}"),
    "list.nrrd": nrrd("data file: LIST\n{}"),
    "list of dimension 2.nrrd": nrrd("data file: LIST 2\n{}\n{}"),
    "pattern.nrrd": nrrd("data file: {}%03d 1 6 1"),
    "other spelling.nrrd": nrrd("DataFile:{}"),
    "twice.nrrd": nrrd("content: x\ndatafile: {}"),
    "segmentation.seg.nrrd": nrrd("data file: {}"),
    "label.nhdr": nrrd("data file: {}"),
    "label.mhd": metaimage("{}"),
    "label.mha": metaimage("{}"),
    "list.mha": metaimage("LIST\n{}"),
    "a metaimage named so.nrrd": metaimage("{}"),
    "a metaimage named so.nii": metaimage("{}"),
    "label.hdr": analyze(),
    "label.img": analyze(),
    "pair.nii": analyze(),
    "an analyze named so.nrrd": analyze(),
    "label.vtk": b"# vtk DataFile Version 3.0\n{}\n",
    "label.xml": b'<!DOCTYPE a [<!ENTITY b SYSTEM "file://{}">]><a>&b;</a>',
}


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file of as many bytes as the label has voxels."""
    file = tmp_path / "elsewhere" / "secret.img"
    file.parent.mkdir()
    file.write_bytes(b"\1" * int(np.prod(SHAPE)))
    return file


@pytest.fixture
def datastore(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CaseDatastore:
    write_image(tmp_path / "studies" / "p1" / "CT.nii.gz", shape=SHAPE)
    opened = open_datastore(tmp_path / "studies")
    app = SimpleNamespace(
        datastore=lambda: opened,
        submit=lambda image, file, tag, notes, reader: opened.submit(image, file, tag, notes),
        on_save_label=lambda *_: None,
    )
    key = f"{settings.MONAI_LABEL_APP_DIR}{settings.MONAI_LABEL_STUDIES}"
    monkeypatch.setitem(loaded.apps, key, app)
    return opened


@pytest.mark.parametrize("name", DETACHED)
def test_a_label_whose_header_names_another_file_is_refused_and_the_file_not_opened(
    datastore: CaseDatastore, secret: Path, name: str
) -> None:
    for named in (str(secret), "../" * 8 + str(secret)[1:], secret.name):
        with (secret.parent / name).open("wb") as stream:
            stream.write(DETACHED[name].replace(b"{}", named.encode()))
        with (
            (secret.parent / name).open("rb") as stream,
            opened_files() as opened,
            pytest.raises(ClientError) as caught,
        ):
            save_label("p1", "{}", "final", UploadFile(stream, filename=name))
        assert opened  # the label itself was looked at
        assert not [path for path in opened if path.endswith(secret.name)]
        assert 400 <= caught.value.status_code < 500
        assert str(secret) not in str(caught.value.detail)
    assert not datastore.labelled()


@pytest.mark.parametrize("name", DETACHED)
def test_a_file_beside_the_images_whose_header_names_another_file_does_not_make_it_open(
    tmp_path: Path, secret: Path, name: str
) -> None:
    patient = tmp_path / "studies" / "p1"
    write_image(patient / "CT.nii.gz", shape=SHAPE)
    for role in ("PET", "GTV"):  # an image, and a label
        file = patient / f"{role}{name[name.index('.') :]}"
        file.write_bytes(DETACHED[name].replace(b"{}", str(secret).encode()))
    with opened_files() as opened:
        workspace = Workspace(tmp_path / "studies", read_settings({}))
        for case in workspace.pool.cases:
            for source in case.modalities.values():
                with suppress(UserError):
                    read_volume(source)
            with suppress(UserError):
                workspace.labels.read(case)
    assert str(patient / "CT.nii.gz") in opened
    assert not [path for path in opened if path.endswith(secret.name)]
