"""The map's endpoints on real patients."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from lib.pipeline.segmentation import Segmenter
from lib.pipeline.settings import AppSettings
from lib.pipeline.workspace import Workspace
from lib.server.datastore import CaseDatastore
from lib.server.endpoints.context import Served
from lib.server.endpoints.map import router
from tests.support.written_plan import IDS, write_plan


@pytest.fixture
def workspace(samples: Callable[..., Path]) -> Workspace:
    return Workspace(samples(*IDS), AppSettings(workers=1))


@pytest.fixture
def client(workspace: Workspace) -> Iterator[TestClient]:
    application = FastAPI()
    application.state.served = Served(workspace, CaseDatastore(workspace), Segmenter(workspace))
    application.include_router(router)
    with TestClient(application) as client:
        yield client


def test_the_map_is_sent_again_only_when_there_is_another_plan(
    workspace: Workspace, client: TestClient
) -> None:
    assert client.get("/map").json()["plan"] is None
    write_plan(workspace)
    answer = client.get("/map")
    assert answer.json()["id"][0] == "STS_008"
    assert answer.headers["content-encoding"] == "gzip"
    plain = client.get("/map", headers={"Accept-Encoding": "identity"})
    assert "content-encoding" not in plain.headers
    assert plain.json() == answer.json()
    known = {"If-None-Match": answer.headers["etag"]}
    again = client.get("/map", headers=known)
    assert (again.status_code, again.content) == (304, b"")
    write_plan(workspace, scored=False)
    assert client.get("/map", headers=known).json()["scored"] is False


def test_the_states_are_those_of_now(workspace: Workspace, client: TestClient) -> None:
    write_plan(workspace)
    assert client.get("/states").json()["labelled"] == sorted(IDS)


def test_a_strip_is_a_picture_and_a_case_in_quarantine_says_why(
    workspace: Workspace, client: TestClient
) -> None:
    picture = client.get("/cases/STS_008/strip.jpg")
    assert picture.headers["content-type"] == "image/jpeg"
    assert picture.content.startswith(b"\xff\xd8")
    assert client.get("/cases/..%2F..%2Fsecret/strip.jpg").status_code == 404
    assert client.get("/cases/STS_999/strip.jpg").status_code == 404
    (workspace.folders.studies / "STS_008" / "CT.nii.gz").write_bytes(b"no image")
    workspace.check()
    refused = client.get("/cases/STS_008/strip.jpg")
    assert refused.status_code == 409
    assert "STS_008 is quarantined" in refused.json()["detail"]
