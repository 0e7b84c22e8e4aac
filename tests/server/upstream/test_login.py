"""MONAI Label's login with a realm that takes a password, refuses it, fails or is not there."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator

import pytest
from fastapi import Depends, FastAPI
from fastapi.testclient import TestClient
from monailabel.config import settings
from monailabel.endpoints import login
from monailabel.endpoints.user import auth

from lib.server.upstream.login import patch_login
from tests.support.realm import PASSWORD, realm


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    for module, name in ((auth, "jwt"), (auth, "requests"), (login, "requests")):
        monkeypatch.setattr(module, name, getattr(module, name))  # as it was, afterwards
    patch_login()
    monkeypatch.setattr(settings, "MONAI_LABEL_AUTH_ENABLE", True)
    application = FastAPI()
    application.include_router(login.router)

    @application.get("/inside", dependencies=[Depends(auth.RBAC("monailabel-user"))])
    def inside() -> None:
        """For users."""

    with TestClient(application) as client:
        yield client


def ask(client: TestClient, password: str = PASSWORD) -> tuple[int, str]:
    answer = client.post("/auth/token", data={"username": "ann", "password": password})
    return answer.status_code, answer.json().get("detail", "")


def test_a_password_that_the_realm_refuses_is_a_401_with_a_sentence(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    with realm({"ann": ["monailabel-user"]}) as address:
        monkeypatch.setattr(settings, "MONAI_LABEL_AUTH_REALM_URI", address)
        assert ask(client) == (200, "")
        assert ask(client, "wrong") == (401, "the login's realm does not accept this name and password.")


def test_a_realm_that_is_not_there_is_a_503_and_asked_again_the_next_time(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    with realm({"ann": ["monailabel-user"]}) as address:
        monkeypatch.setattr(settings, "MONAI_LABEL_AUTH_REALM_URI", address)
    status, sentence = ask(client)
    assert (status, "does not answer" in sentence) == (503, True)
    assert client.get("/inside").status_code == 503


@pytest.mark.parametrize(("status", "content"), [(500, b"{}"), (404, b"{}"), (200, b"<html>")])
def test_an_answer_that_is_no_realms_is_a_502(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, status: int, content: bytes
) -> None:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as other:
        threading.Thread(target=other.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        address = f"http://127.0.0.1:{other.server_port}"
        monkeypatch.setattr(settings, "MONAI_LABEL_AUTH_REALM_URI", address)
        try:
            assert ask(client)[0] == 502
        finally:
            other.shutdown()
