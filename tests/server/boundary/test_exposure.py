"""Whether other machines reach a server that asks nobody who they are."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from lib.pipeline.settings import AppSettings
from lib.pipeline.workspace import Workspace
from lib.runtime.errors import UserError
from lib.server.boundary.exposure import HOST, is_this_machine, listening_host, warning_of_open_door
from tests.support.server import ROOT


@pytest.mark.parametrize(
    ("name", "here"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.7", False),
        ("testclient", False),
        ("", False),
    ],
)
def test_an_address_is_this_machines_alone_or_not(name: str, here: bool) -> None:
    assert is_this_machine(name) is here


def test_a_server_that_others_reach_without_a_login_says_so_or_does_not_start(
    configure: Callable[..., None],
) -> None:
    assert warning_of_open_door("127.0.0.1", require_login=True) == ""
    assert "the login is off" in warning_of_open_door("0.0.0.0", require_login=False)
    with pytest.raises(UserError, match="the login must be on"):
        warning_of_open_door("0.0.0.0", require_login=True)
    configure(AUTH_ENABLE=True)
    assert warning_of_open_door("0.0.0.0", require_login=True) == ""


@pytest.mark.parametrize(
    ("arguments", "host"),
    [
        (["monailabel", "start_server", "--app", "x", "--studies", "y"], "0.0.0.0"),
        (["monailabel", "start_server", "-i", "10.0.0.7", "--conf", "budget", "3"], "10.0.0.7"),
        (["pytest"], "127.0.0.1"),
    ],
)
def test_where_it_listens_is_known_from_its_command_line(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], host: str
) -> None:
    monkeypatch.delenv(HOST, raising=False)
    monkeypatch.setattr(sys, "argv", arguments)
    assert listening_host() == host


def test_serve_refuses_before_anything_is_started(samples: Callable[..., Path]) -> None:
    command = [sys.executable, "main.py", "serve", str(samples("STS_008")), "--host", "0.0.0.0"]
    ended = subprocess.run(
        [*command, "--port", "1", "--conf", "require_login=true"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 2
    assert "the login must be on" in " ".join(ended.stdout.split())


@pytest.mark.parametrize("secret", ["user:secret@", "secret@", ":secret@"])
def test_an_address_with_a_password_is_refused_without_repeating_it(secret: str) -> None:
    for address in (f"http://{secret}127.0.0.1:1/dicom-web", "https://127.0.0.1:1/dicom-web?token=secret"):
        with pytest.raises(UserError, match="MONAI_LABEL_DICOMWEB_PASSWORD") as caught:
            Workspace(address, AppSettings())
        assert "secret" not in str(caught.value)
