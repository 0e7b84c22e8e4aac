"""Files on their way to a client, and files that clients send."""

from __future__ import annotations

import errno
import io
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from fastapi import FastAPI, UploadFile
from fastapi.responses import FileResponse
from fastapi.testclient import TestClient

from lib.app import MdalCimlApp
from lib.ciml.checkpoint import load, save
from lib.ciml.decomposition.table import decomposition_for
from lib.ciml.network.ciml_network import CimlNetwork
from lib.labels.versions import VersionFiles
from lib.runtime.temporary import claim_temporary_folder
from lib.server.boundary.sending import HeldFile
from lib.server.boundary.uploads import save_label, take_model
from lib.server.errors import ClientError
from tests.conftest import SAMPLES


class FullDisk(MdalCimlApp):
    """An app that stores a label and can do nothing further with it."""

    def on_save_label(self, *_: Any) -> None:
        raise OSError("the disk is full")


@pytest.fixture
def app(
    request: pytest.FixtureRequest,
    samples: Callable[..., Path],
    tmp_path: Path,
    load_app: Callable[[MdalCimlApp], MdalCimlApp],
) -> MdalCimlApp:
    kind = getattr(request, "param", MdalCimlApp)
    return load_app(kind(str(tmp_path), str(samples("STS_008")), {"study_labels": "ignore"}))


def sent(content: bytes, name: str = "x.nii.gz") -> UploadFile:
    return UploadFile(io.BytesIO(content), filename=name)


@pytest.mark.parametrize("part", [None, "bytes=1000-1999"])
def test_a_file_that_is_removed_before_it_is_sent_is_sent_whole(tmp_path: Path, part: str | None) -> None:
    content = bytes(number % 251 for number in range(300_000))
    application, file = FastAPI(), tmp_path / "folder" / "CT.nii.gz"

    @application.get("/")
    def answer() -> HeldFile:
        file.parent.mkdir()
        file.write_bytes(content)
        held = HeldFile.of(FileResponse(file, filename="CT.nii.gz"))
        shutil.rmtree(file.parent)
        return held

    with TestClient(application) as client:
        answer = client.get("/", headers={"range": part} if part else {})
    assert answer.content == (content if part is None else content[1000:2000])
    assert answer.headers["content-disposition"] == 'attachment; filename="CT.nii.gz"'


def test_a_file_that_is_gone_is_asked_for_again(tmp_path: Path) -> None:
    with pytest.raises(ClientError, match="Ask again"):
        HeldFile(tmp_path / "gone")


def test_a_temporary_file_is_gone_once_it_is_open_and_no_other(
    tmp_path: Path, temporary_folder_as_before: None
) -> None:
    for folder, stays in ((tmp_path, True), (claim_temporary_folder(tmp_path / "work"), False)):
        (folder / "x.zip").write_bytes(b"x")
        HeldFile(folder / "x.zip")
        assert (folder / "x.zip").exists() is stays


@pytest.mark.parametrize("app", [FullDisk], indirect=True)
def test_a_label_that_is_stored_is_told_so_whatever_follows(app: MdalCimlApp) -> None:
    contour = SAMPLES / "STS_008" / "GTV.nii.gz"
    answer = save_label("STS_008", "{}", "", sent(contour.read_bytes()))
    assert answer == {"image": "STS_008", "label": "STS_008", "version": 1, "warnings": []}
    assert app.datastore().labelled() == {"STS_008"}
    assert not list(Path(tempfile.gettempdir()).glob("received-*"))


@pytest.mark.parametrize(
    ("number", "reason"), [(errno.ENOSPC, "must have room"), (errno.EROFS, "be allowed to")]
)
def test_an_upload_that_cannot_be_stored_is_kept_and_the_answer_says_where(
    app: MdalCimlApp, monkeypatch: pytest.MonkeyPatch, number: int, reason: str
) -> None:
    contour = (SAMPLES / "STS_008" / "GTV.nii.gz").read_bytes()

    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(VersionFiles, "append", fail)
    with pytest.raises(ClientError, match=rf"{reason}.*The upload is kept on the server as") as caught:
        save_label("STS_008", "{}", "final", sent(contour))
    (kept,) = (app.workspace.folders.work / "unsaved").iterdir()
    assert f"unsaved/{kept.name}" in caught.value.detail
    assert caught.value.status_code == 507
    assert kept.read_bytes() == contour
    assert app.datastore().labelled() == set()
    monkeypatch.setattr(shutil, "copyfile", fail)
    with pytest.raises(ClientError, match="could not be kept either: leave the label open in the viewer"):
        save_label("STS_008", "{}", "final", sent(contour))


@pytest.mark.parametrize("name", ["x.exe", "x", "", "../../x.sh", "x.nii.gz/../y", "a\0b", "x." + "y" * 300])
def test_a_label_under_any_name_is_a_label_or_refused(app: MdalCimlApp, name: str) -> None:
    with pytest.raises(ClientError, match="a label must"):
        save_label("STS_008", "{}", "final", sent(b"no label", name))
    assert not list(Path(tempfile.gettempdir()).glob("received-*"))


def test_a_model_that_an_administrator_sends_becomes_the_newest_version(
    app: MdalCimlApp, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    network = CimlNetwork(app.workspace.decomposition, app.workspace.preparation.modalities)
    save(tmp_path / "sent.pt", network, {"dice": 0.7, "version": 9})
    for version in (1, 2):
        answer = take_model("ciml", sent((tmp_path / "sent.pt").read_bytes(), "sent.pt"))
        assert answer["version"] == version
    about = load(app.workspace.models.current())[1]
    assert (about["dice"], about["version"]) == (0.7, 2)


def test_a_model_that_does_not_fit_replaces_nothing(app: MdalCimlApp, tmp_path: Path) -> None:
    save(tmp_path / "other.pt", CimlNetwork(decomposition_for(("CT", "PET")), ("CT", "PET")), {})
    contents = [b"garbage", b"", bytes(1000), (tmp_path / "other.pt").read_bytes()]
    torch.save({"header": "{}", "weights": {}}, tmp_path / "empty.pt")
    contents.append((tmp_path / "empty.pt").read_bytes())
    for content in contents:
        with pytest.raises(ClientError) as caught:
            take_model("ciml", sent(content, "x.pt"))
        assert caught.value.status_code == 409
        assert str(tmp_path) not in str(caught.value.detail)
    assert app.workspace.models.current() is None


def test_a_file_that_the_server_may_not_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "STS_002_CT.nii.gz"

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(ClientError, match=r"STS_002_CT\.nii\.gz must be readable") as caught:
        HeldFile(file)
    assert caught.value.status_code == 409
    assert str(tmp_path) not in caught.value.detail
