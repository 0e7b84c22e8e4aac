"""A password in what MONAI Label's own command was given: no answer, log or file of the server shows it."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests
from monailabel.config import settings
from monailabel.interfaces.utils import app as loaded

from lib.server.upstream.secrets import take_secrets
from tests.support.server import APP, serving
from tests.support.small_pacs import listing, small_pacs

SECRET, ENCODED = "hunter2/@", "hunter2%2F%40"


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch, configure: Callable[..., None]) -> None:
    """What a test changes in MONAI Label and in the environment is taken back."""
    configure(STUDIES="", APP_CONF={}, DICOMWEB_USERNAME="", DICOMWEB_PASSWORD="")
    monkeypatch.setattr(loaded, "apps", loaded.apps)
    for name in ("STUDIES", "DICOMWEB_USERNAME", "DICOMWEB_PASSWORD"):
        monkeypatch.setenv(f"MONAI_LABEL_{name}", "")
    monkeypatch.setenv("MONAI_LABEL_APP_CONF", "{}")
    monkeypatch.setenv("PGPASSWORD", "")


def test_the_framework_goes_on_with_the_same_app_and_addresses_without_secrets(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    log = tmp_path / "logs" / "app.log"
    given, conf = f"http://ann:{ENCODED}@host/d", {"database_url": f"postgresql://bob:{ENCODED}@db/plan"}
    log.write_text(f"USING:: studies = {given}\nUSING:: conf = {conf}\n")
    app = object()
    bare, bare_conf = take_secrets(app, str(tmp_path), given, conf)
    assert (bare, bare_conf) == ("http://host/d", {"database_url": "postgresql://bob@db/plan"})
    assert loaded.app_instance(str(tmp_path), bare) is app
    loaded.apps.pop(f"{tmp_path}{bare}")
    assert bare == settings.MONAI_LABEL_STUDIES == os.environ["MONAI_LABEL_STUDIES"]
    assert bare_conf == settings.MONAI_LABEL_APP_CONF == json.loads(os.environ["MONAI_LABEL_APP_CONF"])
    assert (settings.MONAI_LABEL_DICOMWEB_USERNAME, settings.MONAI_LABEL_DICOMWEB_PASSWORD) == ("ann", SECRET)
    assert os.environ["PGPASSWORD"] == SECRET
    assert "hunter2" not in log.read_text()


def test_what_holds_no_secret_stays_as_it_is(tmp_path: Path) -> None:
    apps = dict(loaded.apps)
    assert take_secrets(object(), str(tmp_path), "/data", {"seed": "1"}) == ("/data", {"seed": "1"})
    assert loaded.apps == apps
    assert settings.MONAI_LABEL_STUDIES == os.environ["MONAI_LABEL_STUDIES"] == ""


@pytest.mark.e2e
@pytest.mark.slow
def test_no_answer_no_log_no_file_and_no_child_of_a_server_shows_the_password(tmp_path: Path) -> None:
    (tmp_path / "app" / "logs").mkdir(parents=True)
    for name in ("main.py", "lib"):
        (tmp_path / "app" / name).symlink_to(APP / name)
    environment = {"HOME": str(tmp_path / "home"), "MONAI_LABEL_AUTO_UPDATE_SCORING": "false"}
    with (
        small_pacs(listing, login=f"ann:{SECRET}") as pacs,
        serving(
            pacs.address.replace("://", f"://ann:{ENCODED}@"),
            app=tmp_path / "app",
            conf={"work_dir": tmp_path / "work", "refresh_s": 1},
            log=tmp_path / "log",
            environment=environment,
        ) as address,
    ):
        shown = [body for path in answered(address) for body in [ask(f"{address}{path}")]]
        children = command_lines_of_children(int(address.rpartition(":")[2]))
    assert set(pacs.logins) == {f"ann:{SECRET}"}
    assert any(pacs.address in body for body in shown)  # the address itself is no secret
    files = [path for folder in ("app", "work", "home") for path in (tmp_path / folder).rglob("*")]
    shown += [path.read_bytes().decode("latin-1") for path in files if path.is_file()]
    assert not [body[:300] for body in [*shown, *children] if "hunter2" in body]


def answered(address: str) -> list[str]:
    """Every address of a server that answers GET, with names that it has."""
    paths = requests.get(f"{address}/openapi.json", timeout=60).json()["paths"]
    names = {"id": "1.2.3", "model": "ciml", "path": "x", "modality": "CT", "tag": "final"}
    found = []
    for path, operations in paths.items():
        if "get" in operations:
            for name in names:
                path = path.replace(f"{{{name}}}", names[name])  # noqa: PLW2901
            found.append(path)
    queries = (
        "/datastore/?output=all",
        "/datastore/image/info?image=1.2.3",
        "/logs/?html=false&lines=100000",
    )
    return [*found, *queries, "/proxy/dicom/qido/series?Modality=CT"]


def ask(address: str) -> str:
    answer = requests.get(address, timeout=60)
    return f"{answer.headers}{answer.content.decode('latin-1')}"


def command_lines_of_children(port: int) -> list[str]:
    """Command lines of the processes that a server started."""
    listening = (each for each in psutil.net_connections("tcp") if each.status == psutil.CONN_LISTEN)
    server = psutil.Process(next(each.pid for each in listening if each.laddr.port == port))
    found: list[Any] = []
    for child in server.children(recursive=True):
        with contextlib.suppress(psutil.Error):
            found.append(" ".join(child.cmdline()))
    return found
