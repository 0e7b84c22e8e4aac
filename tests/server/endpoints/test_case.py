"""One case over HTTP, on real patients: what is said of it, and the volumes of its viewer."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from fastapi import FastAPI
from fastapi.testclient import TestClient

from lib.cases.quality.findings import Finding, Verdict
from lib.cases.quality.kept_check import KeptCheck
from lib.labels.origin import Origin
from lib.pipeline.place_differences import differences_folder
from lib.pipeline.segmentation import Segmenter
from lib.pipeline.settings import read_settings
from lib.pipeline.workspace import Workspace
from lib.plan.store import CaseScore, PoolState
from lib.server.datastore import CaseDatastore
from lib.server.endpoints.case import router
from lib.server.endpoints.context import Served
from tests.support.networks import outline_uptake
from tests.support.places import PLACES, differences, peak
from tests.support.pools import label_for

IDS = ("STS_002", "STS_008")
SENTENCE = "CT is dark. Look at it."


@pytest.fixture
def workspace(samples: Callable[..., Path]) -> Workspace:
    torch.set_num_threads(1)
    workspace = Workspace(samples(*IDS), read_settings({"device": "cpu", "strategy": "mdal", "budget": "1"}))
    details = {
        "most_different_pair": "CT/PET",
        "difference_by_pair": {"CT/PET": 1.5},
        "pmi_nats_by_pair": {"CT/PET": -0.5},
    }
    scores = {
        "STS_002": CaseScore(1.5, 50.0, details, 0.5, 0, np.array([1.0, 0.0])),
        "STS_008": CaseScore(-1.5, 0.0, {}, 0.1, 1, np.array([0.0, 1.0])),
    }
    workspace.plan.write(content="x", seed=0, scores=scores, orders={"mdal": IDS}, about={})
    known = dict.fromkeys(IDS, np.full(PLACES, 0.25)) | {"STS_002": peak(100)}
    differences(known).save(differences_folder(workspace), of="x")
    return workspace


@pytest.fixture
def client(workspace: Workspace) -> Iterator[TestClient]:
    application = FastAPI()
    application.include_router(router)
    application.state.served = Served(workspace, CaseDatastore(workspace), Segmenter(workspace))
    with TestClient(application) as client:
        yield client


def volume(client: TestClient, path: str) -> nib.Nifti1Image:
    answer = client.get(f"/cases/STS_002/{path}.nii.gz")
    assert answer.status_code == 200, answer.text
    return nib.Nifti1Image.from_bytes(gzip.decompress(answer.content))


def test_a_case_says_why_it_was_chosen_and_what_happened_to_it(
    workspace: Workspace, client: TestClient
) -> None:
    workspace.plan.lease_next(
        IDS, annotator="<script>", read_pool=lambda: PoolState(set(IDS), set()), lease=timedelta(hours=1)
    )
    about = client.get("/cases/STS_002").json()
    assert about["reason"] == (
        "Case 1 of 2: its modalities differ more than those of 50 % of the other cases, CT/PET most."
    )
    assert (about["rank"], about["of"], about["chosen"]) == (1, 2, True)
    assert about["pairs"] == [{"pair": "CT/PET", "difference": 1.5, "difference_nats": 0.5}]
    assert about["nearest_labelled"]["id"] == "STS_008"
    assert [(event["kind"], event["who"]) for event in about["history"]] == [
        ("offered", "<script>"),
        ("planned", None),
    ]
    assert about["ids"] == ["STS_002", "STS_002_CT", "STS_002_MR_T1", "STS_002_PET"]
    assert about["model"] is None
    assert [label["tag"] for label in about["labels"]] == ["final"]
    by_name = {modality["name"]: modality for modality in about["modalities"]}
    assert by_name["PET"]["inverted"]
    assert by_name["CT"]["presets"][0] == {"name": "soft tissue", "low": -160.0, "high": 240.0}
    assert by_name["MR_T1"]["shape"] == [57, 45, 35]
    json.dumps(about, allow_nan=False)
    assert client.get("/cases/STS_002_PET").json()["id"] == "STS_002"  # a volume's name means the case


def test_the_history_names_both_readers_and_an_earlier_label_is_made_current_again(
    workspace: Workspace, client: TestClient, tmp_path: Path
) -> None:
    file, case = label_for(workspace, "STS_002", tmp_path / "x.nii.gz"), workspace.pool.by_id["STS_002"]
    for reader, seconds in (("ann", 61.5), ("<b>", None)):
        about = {} if seconds is None else {"seconds_since_offer": seconds, "model_version": 4}
        workspace.labels.save(case, file, "final", {}, Origin(reader=reader, client="10.0.0.9", about=about))
    second, first = client.get("/cases/STS_002").json()["versions"]
    assert (second["reader"], second["number"], second["current"]) == ("<b>", 2, True)
    assert (first["reader"], first["current"], first["kind"]) == ("ann", False, "submitted")
    assert (first["model_version"], first["seconds_since_offer"]) == (4, 61.5)
    assert "client" not in first
    chosen = client.post("/cases/STS_002/labels/final/current", json={"version": 1, "reader": "lead"})
    about = chosen.json()
    assert [(each["number"], each["kind"], each["current"]) for each in about["versions"]] == [
        (3, "restored", True),
        (2, "submitted", False),
        (1, "submitted", False),
    ]
    event = about["history"][0]
    assert (event["kind"], event["who"], event["version"], event["of"]) == ("restored", "lead", 3, 1)
    for choice, status, said in (
        ({"version": 9}, 409, "must be one of 1, 2, 3; got 9"),
        ({"version": 0}, 422, ""),
        ({"version": 1, "reader": "a\nb"}, 400, "client_id must be a name"),
    ):
        answer = client.post("/cases/STS_002/labels/final/current", json=choice)
        assert (answer.status_code, said in answer.text) == (status, True), answer.text
    assert client.post("/cases/STS_002/labels/../current", json={"version": 1}).status_code in (404, 405)
    assert workspace.labels.notes(case, "final")["version"] == 3


def test_the_volumes_are_in_the_modalitys_unit_on_its_own_grid(
    workspace: Workspace, client: TestClient
) -> None:
    case = workspace.pool.by_id["STS_002"]
    ct, pet = volume(client, "images/CT"), volume(client, "images/PET")
    stored = nib.load(case.modalities["PET"].path)  # SUV x 100
    assert pet.get_fdata().max() == pytest.approx(stored.get_fdata().max() / 100.0, rel=1e-5)
    assert np.allclose(pet.affine, stored.affine)
    assert np.array_equal(ct.get_fdata(), nib.load(case.modalities["CT"].path).get_fdata())
    label = volume(client, "labels/final")
    assert set(np.unique(label.get_fdata())) == {0.0, 1.0}


def test_the_difference_lies_where_the_document_says(client: TestClient) -> None:
    (known,) = client.get("/cases/STS_002").json()["differences"]
    map = volume(client, "difference/CT/PET")
    x, y, z = (np.linalg.inv(map.affine) @ [*known["most_mm"], 1.0])[:3].round().astype(int)
    assert 1.0 < map.get_fdata()[x, y, z] == pytest.approx(map.get_fdata().max())


def test_the_model_outlines_once_there_is_one(workspace: Workspace, client: TestClient) -> None:
    answer = client.get("/cases/STS_002/segmentation.nii.gz")
    assert answer.status_code == 409
    assert "no trained model yet" in answer.json()["detail"]
    outline_uptake(workspace)
    outlined = volume(client, "segmentation").get_fdata()
    assert set(np.unique(outlined)) == {0.0, 1.0}
    for query, modality in (("", "MR_T1"), ("?modality=PET", "PET")):
        answer = client.get(f"/cases/STS_002/uncertainty.nii.gz{query}")
        unsure = nib.Nifti1Image.from_bytes(gzip.decompress(answer.content))
        asked = nib.load(workspace.pool.by_id["STS_002"].modalities[modality].path)
        assert (unsure.shape, unsure.get_data_dtype()) == (asked.shape, np.float32)
        assert np.allclose(unsure.affine, asked.affine, atol=1e-3)
        assert 0.0 < unsure.get_fdata().max() <= np.log(2.0) + 1e-6
    answer = client.get("/cases/STS_002/uncertainty.nii.gz?modality=FLAIR")
    assert answer.status_code == 404
    assert "must be one of CT, MR_T1, PET" in answer.json()["detail"]
    model = client.get("/cases/STS_002").json()["model"]
    assert model["version"] == 1
    assert {"measure": "kl", "unit": "nats", "sender": "PET", "subtask": "CT"} in model["maps"]


def test_a_quarantined_case_says_why_and_is_shown(workspace: Workspace, client: TestClient) -> None:
    verdict = Verdict("quarantined", (Finding("dark", "quarantined", ("CT",), SENTENCE),))
    workspace.verdicts.keep(KeptCheck(verdicts={"STS_002": verdict}))
    about = client.get("/cases/STS_002").json()
    assert about["status"] == "quarantined"
    assert about["findings"][0]["sentence"] == SENTENCE
    assert about["reason"].startswith("Held back by the pool check")
    workspace.pool.by_id["STS_002"].modalities["CT"].path.write_bytes(b"no image")
    problem = {
        modality["name"]: modality["problem"]
        for modality in client.get("/cases/STS_002").json()["modalities"]
    }
    assert problem["PET"] is None
    assert "must be named for what it holds" in problem["CT"]
    assert client.get("/cases/STS_002/planes.jpg").content.startswith(b"\xff\xd8")
    assert client.get("/cases/STS_002/images/PET.nii.gz").status_code == 200
    assert client.get("/cases/STS_002/images/CT.nii.gz").status_code == 409


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("nobody", "which is a name of none of 2 cases"),
        ("STS_002/images/T2.nii.gz", "modality must be one of"),
        ("STS_002/labels/wibble.nii.gz", "has no label tagged"),
        ("STS_002/difference/CT/wibble.nii.gz", "exist for CT/PET"),
        ("..%2f..%2fetc%2fpasswd", ""),
    ],
)
def test_what_is_not_there_is_404_with_a_sentence(client: TestClient, path: str, sentence: str) -> None:
    answer = client.get(f"/cases/{path}")
    assert answer.status_code == 404
    assert sentence in answer.json()["detail"]


def test_a_case_that_no_plan_knows_says_so(samples: Callable[..., Path]) -> None:
    workspace = Workspace(samples("STS_008"), read_settings({"device": "cpu"}))
    application = FastAPI()
    application.include_router(router)
    application.state.served = Served(workspace, CaseDatastore(workspace), Segmenter(workspace))
    about = TestClient(application).get("/cases/STS_008").json()
    assert about["reason"].startswith("No plan yet")
    assert (about["status"], about["difference"], about["differences"], about["history"]) == (
        "unchecked",
        None,
        [],
        [],
    )
