"""Secrets in addresses are used and never shown: not in answers, tables, logs, files or command lines."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lib.cli.main import app
from lib.pipeline.secrets import mask_logs, masked, take_database_secret, take_pacs_secret
from lib.pipeline.settings import read_settings
from lib.pipeline.tracking import tracker
from lib.pipeline.workspace import Workspace
from lib.runtime.errors import UserError
from lib.server import subprocesses
from tests.support.command_line import exit_code, said
from tests.support.images import write_image
from tests.support.small_pacs import SmallPacs, small_pacs

SECRET, ENCODED = "s3/cr@t:%x", "s3%2Fcr%40t%3A%25x"
VARIABLES = ("MONAI_LABEL_DICOMWEB_USERNAME", "MONAI_LABEL_DICOMWEB_PASSWORD", "PGPASSWORD")


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """An environment without secrets, which a test may change."""
    for name in VARIABLES:
        monkeypatch.setenv(name, "")  # so that monkeypatch takes back what the program sets
    return os.environ  # type: ignore[return-value]


@pytest.fixture
def pacs() -> Iterator[SmallPacs]:
    """A PACS that wants a password."""
    with small_pacs(login=f"ann:{SECRET}") as running:
        yield running


def with_login(address: str, login: str = f"ann:{ENCODED}") -> str:
    return address.replace("://", f"://{login}@")


@pytest.mark.parametrize(
    ("address", "bare", "user", "password"),
    [
        ("http://ann:x@host:8042/dicom-web", "http://host:8042/dicom-web", "ann", "x"),
        (f"https://a%40b:{ENCODED}@[::1]/d", "https://[::1]/d", "a@b", SECRET),
        ("HTTP://ann:p@ss@host/d", "http://host/d", "ann", "p@ss"),
        ("http://ann:x@host/d?token=y", "http://host/d?token=y", "ann", "x"),
        ("http://host/dicom-web", "http://host/dicom-web", "", ""),
        ("http://ann@host/d", "http://ann@host/d", "", ""),
        ("http://[::1", "http://[::1", "", ""),
        ("/data/ann:x@host", "/data/ann:x@host", "", ""),
    ],
)
def test_the_password_of_a_pacs_moves_from_the_address_to_the_environment(
    environment: dict[str, str], address: str, bare: str, user: str, password: str
) -> None:
    assert take_pacs_secret(address) == bare
    assert [environment[name] for name in VARIABLES[:2]] == [user, password]


@pytest.mark.parametrize(
    ("url", "bare", "password"),
    [
        ("postgresql://ann:x@host/plan", "postgresql://ann@host/plan", "x"),
        (f"postgresql+psycopg://ann:{ENCODED}@host:5/p", "postgresql+psycopg://ann@host:5/p", SECRET),
        (
            "postgresql://ann@host/p?password=x&sslmode=require",
            "postgresql://ann@host/p?sslmode=require",
            "x",
        ),
        ("postgresql://ann@host/p", "postgresql://ann@host/p", ""),
        ("sqlite:////data/plan.sqlite", "sqlite:////data/plan.sqlite", ""),
        ("bad", "bad", ""),
    ],
)
def test_the_password_of_the_database_moves_from_the_address_to_the_environment(
    environment: dict[str, str], url: str, bare: str, password: str
) -> None:
    assert take_database_secret(url) == bare
    assert environment["PGPASSWORD"] == password


@pytest.mark.parametrize(
    ("text", "without"),
    [
        ("at http://ann:hunter2@host/d.", "at http://***********@host/d."),
        ("'postgresql://a:p@ss@host/p'", "'postgresql://******@host/p'"),
        ("https://host/d?token=hunter2&x=1", "https://host/d?token=*******&x=1"),
        ("http://host:8042/d", "http://host:8042/d"),
        ("ann@host wrote to bob@host", "ann@host wrote to bob@host"),
        ("http://host/d, then ann@other", "http://host/d, then ann@other"),
    ],
)
def test_a_secret_in_a_text_is_masked_and_nothing_else(text: str, without: str) -> None:
    assert masked(text) == without


def test_a_log_is_masked_in_its_place_while_it_is_open(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    with log.open("ab") as stream:
        stream.write(b"studies = http://ann:hunter2@host/d\nM\xfcller\r\n")
        stream.flush()
        mask_logs(tmp_path)
        stream.write(b"next\n")
    assert log.read_bytes() == b"studies = http://***********@host/d\nM\xfcller\r\nnext\n"


def shown(tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> str:
    """Everything that was printed, logged or written."""
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    written = "".join(f"{path}{path.read_bytes().decode('latin-1')}" for path in files)
    return said("".join(capsys.readouterr())) + caplog.text + written


@pytest.mark.parametrize("command", ["check", "select", "train", "segment", "report", "serve"])
def test_no_command_shows_the_password_of_a_pacs_and_each_uses_it(
    pacs: SmallPacs,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    command: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Workspace, "validate", stop)
    more = ["--output", tmp_path / "x.html"] if command == "report" else []
    caplog.set_level("DEBUG")
    words = (command, with_login(pacs.address), "--conf", f"work_dir={tmp_path / 'work'}", *more)
    if command == "check":
        output = ["--list", "--output", tmp_path / "check.json"]
        app([str(word) for word in (*words, *output)], standalone_mode=False)
    else:
        assert exit_code(*words) == 2
    assert set(pacs.logins) == {f"ann:{SECRET}"}
    everything = shown(tmp_path, capsys, caplog)
    assert "set MONAI_LABEL_DICOMWEB_USERNAME and MONAI_LABEL_DICOMWEB_PASSWORD" in everything
    assert pacs.address in everything
    assert not [each for each in (SECRET, ENCODED) if each in everything]


def stop(workspace: Workspace) -> None:
    raise UserError(f"stopped with {workspace.folders.address}")


def test_a_wrong_password_is_refused_without_repeating_it(
    pacs: SmallPacs, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    words = ("check", with_login(pacs.address, "ann:hunter2"), "--conf", f"work_dir={tmp_path / 'work'}")
    assert exit_code(*words) == 2
    everything = shown(tmp_path, capsys, caplog)
    assert "it answered 401. Set MONAI_LABEL_DICOMWEB_USERNAME and" in everything
    assert "hunter2" not in everything


def test_no_command_line_of_a_child_process_holds_the_password_of_the_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]
) -> None:
    studies = write_image(tmp_path / "studies" / "p1" / "CT.nii.gz").parents[1]
    url = take_database_secret("postgresql://ann:hunter2@host/plan")
    started: list[Any] = []
    monkeypatch.setattr(subprocess, "run", lambda command, **options: started.append((command, options)))
    subprocesses.check_in_background(Workspace(studies, read_settings({"database_url": url})))
    ((command, options),) = started
    assert "database_url=postgresql://ann@host/plan" in command
    assert not [word for word in command if "hunter2" in word]
    assert options["env"]["PGPASSWORD"] == environment["PGPASSWORD"] == "hunter2"


def test_a_database_that_does_not_open_is_told_without_its_password(tmp_path: Path) -> None:
    studies = write_image(tmp_path / "studies" / "p1" / "CT.nii.gz").parents[1]
    for url in ("postgresql://ann:hunter2@127.0.0.1:1/plan", "nosuch://ann:hunter2@host/plan"):
        with pytest.raises(UserError, match="database") as caught:
            Workspace(studies, read_settings({"database_url": url})).validate()
        assert "hunter2" not in str(caught.value)


def test_an_mlflow_that_does_not_fit_is_told_without_its_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://ann:hunter2@127.0.0.1:9")
    with (
        pytest.raises(UserError, match="MLFLOW_TRACKING_URI must name") as caught,
        tracker(tmp_path, run="first", parameters={}),
    ):
        pass
    assert "hunter2" not in str(caught.value)
