"""Trust, model and check over HTTP: what is answered, what is refused, and who may choose a version."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests
from fastapi import FastAPI
from fastapi.testclient import TestClient

from lib.ciml.checkpoint import load
from lib.pipeline.segmentation import Segmenter
from lib.pipeline.settings import AppSettings
from lib.pipeline.workspace import Workspace
from lib.server.datastore import CaseDatastore
from lib.server.endpoints import check as check_endpoints
from lib.server.endpoints import model as model_endpoints
from lib.server.endpoints import trust as trust_endpoints
from lib.server.endpoints.context import Served
from tests.support.networks import outline_uptake
from tests.support.realm import PASSWORD, realm

SERVED, REVIEWED = "/model/served", "/check/released"


@pytest.fixture
def workspace(samples: Callable[..., Path]) -> Workspace:
    workspace = Workspace(samples("STS_008", "STS_019"), AppSettings(workers=1))
    outline_uptake(workspace)
    workspace.models.publish(load(workspace.models.current())[0], {"dice": 0.5})
    return workspace


@pytest.fixture
def client(workspace: Workspace) -> Iterator[TestClient]:
    application = FastAPI()
    application.state.served = Served(workspace, CaseDatastore(workspace), Segmenter(workspace))
    for endpoints in (trust_endpoints, model_endpoints, check_endpoints):
        application.include_router(endpoints.router)
    with TestClient(application) as client:
        yield client


def test_a_version_is_chosen_and_the_answer_says_so(workspace: Workspace, client: TestClient) -> None:
    assert client.get("/model").json()["answers"]["version"] == 2
    assert client.post(SERVED, json={"version": 1}).json()["answers"]["version"] == 1
    assert workspace.models.chosen() == 1
    assert client.post(SERVED, json={"version": 0}).json()["answers"]["version"] == 2


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({"version": 9}, 409, "one of 1, 2; got 9"),
        ({"version": -1}, 422, ""),
        ({"version": "1"}, 422, ""),
        ({"version": 1, "more": 1}, 422, ""),
        ({}, 422, ""),
    ],
)
def test_what_is_no_version_is_refused(
    workspace: Workspace, client: TestClient, body: dict[str, object], status: int, said: str
) -> None:
    answer = client.post(SERVED, json=body)
    assert answer.status_code == status
    assert said in answer.text
    assert workspace.models.chosen() == 0


def test_where_the_login_is_on_only_an_administrator_chooses(
    workspace: Workspace, client: TestClient, configure: Callable[..., None], patched_login: None
) -> None:
    roles = {"ann": ["monailabel-user"], "ada": ["monailabel-user", "monailabel-admin"]}
    with realm(roles) as address:
        configure(AUTH_ENABLE=True, AUTH_REALM_URI=address)
        statuses = {}
        for name in roles:
            form = {"username": name, "password": PASSWORD}
            token = requests.post(f"{address}/token", data=form, timeout=60).json()["access_token"]
            headers = {"Authorization": f"Bearer {token}"}
            statuses[name] = client.post(SERVED, json={"version": 1}, headers=headers).status_code
            assert workspace.models.chosen() == (name == "ada")
        assert statuses == {"ann": 403, "ada": 200}
        assert client.post(SERVED, json={"version": 0}).status_code == 401
        assert workspace.models.chosen() == 1


def test_a_plan_and_a_check_that_are_not_there_yet_are_told(client: TestClient) -> None:
    assert client.get("/trust").json()["state"] == "none"
    assert client.get("/check").json()["state"] == "unchecked"


def test_a_released_case_is_served_and_its_history_says_by_whom(
    workspace: Workspace, client: TestClient
) -> None:
    workspace.check()
    assert [case.id for case in workspace.verdicts.served] == ["STS_008"]
    body = {"case": "STS_019", "released": True, "reader": "ada"}
    row = client.post(REVIEWED, json=body).json()["cases"][0]
    assert (row["case"], row["release"], row["status"]) == ("STS_019", "", "quarantined")
    assert row["released"].startswith("by ada on 20")
    assert [case.id for case in workspace.verdicts.served] == ["STS_008", "STS_019"]
    assert workspace.scoring_settings["released"] == ["STS_019"]
    told = client.post(REVIEWED, json={**body, "released": False, "reader": ""}).json()["cases"][0]
    assert (told["released"], told["release"]) == ("", "--conf released=STS_019")
    assert [case.id for case in workspace.verdicts.served] == ["STS_008"]
    events = workspace.plan.history("STS_019")
    assert [(event.kind, event.annotator) for event in events] == [("held back", None), ("released", "ada")]


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({"case": "STS_008", "released": True}, 409, "must be held back by the pool check; it is not"),
        ({"case": "STS_019", "released": False}, 409, "must have been released on the page"),
        ({"case": "STS_020", "released": True}, 404, "STS_020"),
        ({"case": "STS_019", "released": True, "reader": "a\x00"}, 400, "must be a name"),
        ({"case": "STS_019", "released": 1}, 422, ""),
        ({"case": "STS_019"}, 422, ""),
    ],
)
def test_what_cannot_be_released_is_refused(
    workspace: Workspace, client: TestClient, body: dict[str, object], status: int, said: str
) -> None:
    workspace.check()
    answer = client.post(REVIEWED, json=body)
    assert said in answer.text
    assert answer.status_code == status
    assert [case.id for case in workspace.verdicts.served] == ["STS_008"]


def test_a_checkerboard_is_a_picture_and_a_case_or_modality_is_looked_up(client: TestClient) -> None:
    query = {"first": "CT", "second": "PET"}
    picture = client.get("/cases/STS_019/checkerboard.jpg", params=query)
    assert picture.headers["content-type"] == "image/jpeg"
    assert picture.content.startswith(b"\xff\xd8")
    assert client.get("/cases/..%2Fsecret/checkerboard.jpg", params=query).status_code == 404
    wrong = client.get("/cases/STS_019/checkerboard.jpg", params={"first": "CT", "second": "../PET"})
    assert (wrong.status_code, "must be two of CT, MR_T1, PET" in wrong.json()["detail"]) == (404, True)
