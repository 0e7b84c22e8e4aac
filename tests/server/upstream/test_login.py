"""MONAI Label's login with a realm that takes a password, refuses it, fails or is not there."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Callable, Iterator

import pytest
from fastapi import Depends, FastAPI
from fastapi.testclient import TestClient
from monailabel.endpoints import login
from monailabel.endpoints.user import auth

from tests.support.realm import PASSWORD, realm


@pytest.fixture
def client(configure: Callable[..., None], patched_login: None) -> Iterator[TestClient]:
    configure(AUTH_ENABLE=True)
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
    client: TestClient, configure: Callable[..., None]
) -> None:
    with realm({"ann": ["monailabel-user"]}) as address:
        configure(AUTH_REALM_URI=address)
        assert ask(client) == (200, "")
        assert ask(client, "wrong") == (401, "the login's realm does not accept this name and password.")


def test_a_realm_that_is_not_there_is_a_503_and_asked_again_the_next_time(
    client: TestClient, configure: Callable[..., None]
) -> None:
    with realm({"ann": ["monailabel-user"]}) as address:
        configure(AUTH_REALM_URI=address)
    status, sentence = ask(client)
    assert (status, "does not answer" in sentence) == (503, True)
    assert client.get("/inside").status_code == 503


@pytest.mark.parametrize(("status", "content"), [(500, b"{}"), (404, b"{}"), (200, b"<html>")])
def test_an_answer_that_is_no_realms_is_a_502(
    client: TestClient, configure: Callable[..., None], status: int, content: bytes
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
        configure(AUTH_REALM_URI=address)
        try:
            assert ask(client)[0] == 502
        finally:
            other.shutdown()
