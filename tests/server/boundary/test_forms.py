"""Forms of MONAI Label's endpoints: a body that would be read otherwise than it was meant is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from monailabel.endpoints import datastore, infer

from lib.labels.origin import Saved
from lib.labels.versions import LabelVersion
from lib.server.boundary.unexpected_errors import handle_known_errors
from lib.server.upstream.threads import keep_loop_free


class App:
    """Stands in for an app; keeps what reaches it."""

    def __init__(self) -> None:
        self.stored: list[Any] = []

    def info(self) -> dict[str, Any]:
        return {"models": {"ciml": {}}}

    def datastore(self) -> App:
        return self

    def update_image_info(self, image: str, info: dict[str, Any]) -> None:
        self.stored.append(info)

    def submit(self, image: str, file: Path, tag: str, info: dict[str, Any], reader: str) -> Saved:
        self.stored.append((file.read_bytes(), info))
        return Saved(LabelVersion(image, tag, "submitted", "", 1), None)

    def on_save_label(self, image: str, label: str) -> None:
        pass

    def infer(self, request: dict[str, Any]) -> dict[str, Any]:
        self.stored.append(request)
        return {"params": {}}


@pytest.fixture
def app(load_app: Callable[[App], App]) -> App:
    return load_app(App())


@pytest.fixture
def client(app: App, become_server: Callable[[FastAPI], FastAPI]) -> Iterator[TestClient]:
    application = become_server(FastAPI())
    for endpoints in (datastore, infer):
        application.include_router(endpoints.router)
    keep_loop_free()
    handle_known_errors(application)
    with TestClient(application) as client:
        yield client


NOTE, LABEL, INFER = "/datastore/image/info?image=p1", "/datastore/label?image=p1", "/infer/ciml?image=p1"


@pytest.mark.parametrize(("method", "path"), [("PUT", NOTE), ("POST", INFER + "&output=json")])
@pytest.mark.parametrize("kind", ["application/json", "text/plain", "application/octet-stream", "", "x"])
def test_a_body_of_another_kind_is_not_taken_for_an_empty_form(
    app: App, client: TestClient, method: str, path: str, kind: str
) -> None:
    answer = client.request(method, path, content=b'{"note": "small"}', headers={"Content-Type": kind})
    assert (answer.status_code, "must be a form" in answer.json()["detail"]) == (415, True)
    assert app.stored == []


def test_a_request_without_a_body_is_a_form_without_fields(app: App, client: TestClient) -> None:
    assert client.post(INFER + "&output=json").status_code == 200
    assert client.post(INFER + "&output=json", headers={"Content-Type": "text/plain"}).status_code == 200
    assert len(app.stored) == 2


def test_of_two_values_in_a_form_none_is_dropped_in_silence(app: App, client: TestClient) -> None:
    one = ("label", ("x.nii.gz", b"one"))
    params = {"params": ['{"a": 1}', '{"a": 2}']}
    for answer, name in (
        (client.put(LABEL, files=[one, ("label", ("y.nii.gz", b"two"))]), "label"),
        (client.put(LABEL, files=[one], data=params), "params"),
        (client.put(NOTE, data={"info": ["{}", "{}"]}), "info"),
    ):
        sentence = answer.json()["detail"]
        assert (answer.status_code, f"'{name}' must be given once" in sentence) == (400, True)
    assert app.stored == []
    assert client.put(LABEL, files=[one], data={"params": '{"a": 1}'}).status_code == 200
    assert app.stored == [(b"one", {"a": 1})]


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        ({}, "label must be sent"),
        ({"data": {"params": "{}"}}, "label must be sent"),
        ({"data": {"label": "not a file"}}, "label must fit"),
        ({"files": {"label": ("", b"\x1f\x8bsecret")}}, "label must fit"),
        (
            {"content": b"no form", "headers": {"Content-Type": "multipart/form-data"}},
            "the form must be whole",
        ),
        ({"data": {"params": "x" * 2**21}, "files": {"label": ("x.nrrd", b"x")}}, "the form must be whole"),
        ({"content": b"x", "headers": {"Content-Type": "multipart/form-data; boundary=y"}}, ""),
    ],
)
def test_a_form_without_its_file_is_refused_with_a_sentence(
    app: App, client: TestClient, sent: dict[str, Any], said: str
) -> None:
    answer = client.put(LABEL, **sent)
    sentence = answer.json()["detail"]
    assert 400 <= answer.status_code < 500
    assert isinstance(sentence, str)
    assert said in sentence
    assert "secret" not in sentence
    assert app.stored == []
