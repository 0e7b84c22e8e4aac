"""Explanations over HTTP, on a real patient: made once, looked up and never opened, one at a time."""

from __future__ import annotations

import gzip
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from fastapi import FastAPI
from fastapi.testclient import TestClient

from lib.cases.case import Case
from lib.ciml.inference.explanation import MEASURES
from lib.ciml.network.ciml_network import CimlNetwork
from lib.ciml.network.settings import NetworkSettings
from lib.pipeline.disk import SHARES
from lib.pipeline.segmentation import Segmenter
from lib.pipeline.settings import read_settings
from lib.pipeline.workspace import Workspace
from lib.server.datastore import CaseDatastore
from lib.server.endpoints import explanations as web
from lib.server.endpoints.context import Served
from lib.server.endpoints.page import offer_page
from lib.server.errors import ClientError
from lib.views.exports.explanation_files import NUMBERS, explain_case

SMALL = NetworkSettings(channels=(4, 8), strides=((1, 2, 2), (2, 2, 2)), message_channels=2, message_levels=2)
PATH = "/mdal/explanation"


@pytest.fixture
def workspace(samples: Callable[..., Path], request: pytest.FixtureRequest) -> Workspace:
    torch.set_num_threads(1)
    return Workspace(samples("STS_008"), read_settings({"device": "cpu", **getattr(request, "param", {})}))


@pytest.fixture
def network(workspace: Workspace) -> CimlNetwork:
    torch.manual_seed(0)
    network = CimlNetwork(workspace.decomposition, workspace.preparation.modalities, SMALL).eval()
    with torch.no_grad():
        for branch in network.branches:
            for channel in branch.channels:
                channel.out.weight.normal_(0.0, 0.5)
    return network


@pytest.fixture
def client(workspace: Workspace, become_server: Callable[[FastAPI], FastAPI]) -> Iterator[TestClient]:
    """The endpoints as a server process of MONAI Label has them."""
    server = become_server(FastAPI())
    app = Served(workspace, CaseDatastore(workspace), Segmenter(workspace))
    assert offer_page(app)
    assert offer_page(app)  # the app was made anew
    with TestClient(server) as client:
        yield client


def test_a_case_is_explained_on_its_reference_grid(
    workspace: Workspace, network: CimlNetwork, tmp_path: Path
) -> None:
    case = workspace.pool.cases[0]
    workspace.models.publish(network, {})
    written = explain_case(Segmenter(workspace), case, tmp_path)
    assert {path.parent for path in written} == {tmp_path / "STS_008_explain"}
    assert all(path.exists() for path in written)
    names = {path.name for path in written}
    for measure in MEASURES:
        assert f"PET_to_CT_{measure}.nii.gz" in names
    reference = nib.load(case.modalities[workspace.preparation.reference].path)
    for path in written:
        if path.suffix == ".gz":
            image = nib.load(path)
            assert image.shape == reference.shape
            assert np.allclose(image.affine, reference.affine, atol=1e-3)
            assert image.get_data_dtype() == np.float32
            assert np.isfinite(image.get_fdata()).all()


def test_an_explanation_is_made_once_for_a_model_and_again_for_the_next(
    workspace: Workspace, network: CimlNetwork, client: TestClient
) -> None:
    workspace.models.publish(network, {})
    first = client.get(f"{PATH}/STS_008.png")
    assert (first.status_code, first.headers["content-type"]) == (200, "image/png")
    assert first.content.startswith(b"\x89PNG")
    start = time.process_time()  # of this process alone, whatever else the machine does
    numbers = client.get(f"{PATH}/STS_008").json()
    again = client.get(f"{PATH}/STS_008.png")
    assert time.process_time() - start < 0.5
    assert again.content == first.content
    assert numbers["model_version"] == 1
    assert "as reconstructed from its abstract" in numbers["method"]
    assert 0.0 <= sum(numbers["shapley"].values()) <= 1.0 + 1e-6
    assert numbers["sentence"].endswith(("(Shapley values).", "no modality accounts for it."))
    messages = {(row["sender"], row["subtask"]) for row in numbers["contributions"] if row["measure"] == "kl"}
    assert len(messages) == 6
    map = client.get(f"{PATH}/STS_008/PET/CT/kl.nii.gz")
    image = nib.Nifti1Image.from_bytes(gzip.decompress(map.content))
    assert image.shape == nib.load(workspace.pool.cases[0].modalities["MR_T1"].path).shape
    assert client.get(f"{PATH}/STS_008_PET").json() == numbers  # a sibling's name means the case
    workspace.models.publish(network, {"another": True})
    assert client.get(f"{PATH}/STS_008").json()["model_version"] == 2


def test_without_a_model_the_answer_says_what_to_do(client: TestClient) -> None:
    answer = client.get(f"{PATH}/STS_008.png")
    assert answer.status_code == 409
    assert "needs a trained model" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("wibble.png", "an image must be the id of a case"),
        ("..%2f..%2fetc%2fpasswd", ""),
        ("STS_008/PET/CT/wibble.nii.gz", "measure must be one of attention"),
        ("STS_008/PET/wibble/kl.nii.gz", "sender/subtask must be one of"),
        ("STS_008/..%2f..%2fCT/CT/kl.nii.gz", ""),
        ("STS_008/PET/PET/kl.nii.gz", "sender/subtask must be one of"),
    ],
)
def test_what_is_not_there_is_404_with_a_sentence(
    workspace: Workspace, network: CimlNetwork, client: TestClient, path: str, sentence: str
) -> None:
    workspace.models.publish(network, {})
    answer = client.get(f"{PATH}/{path}")
    assert answer.status_code == 404
    assert sentence in answer.json()["detail"]


def test_a_quarantined_case_is_409(workspace: Workspace, network: CimlNetwork, client: TestClient) -> None:
    workspace.models.publish(network, {})
    workspace.verdicts.quarantined = {"STS_008"}
    answer = client.get(f"{PATH}/STS_008")
    assert answer.status_code == 409
    assert "is quarantined" in answer.json()["detail"]


def test_who_would_wait_too_long_is_told_to_come_again(
    workspace: Workspace, network: CimlNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace.models.publish(network, {})
    monkeypatch.setattr(web, "PATIENCE_S", 0.05)
    explanations = web.Explanations(Segmenter(workspace))
    with explanations._making, pytest.raises(ClientError, match="Another explanation is being") as caught:
        explanations.file("STS_008", NUMBERS)
    assert caught.value.status_code == 503


@pytest.mark.parametrize("workspace", [{"disk_gb": 2e-9 / SHARES["explanations"]}], indirect=True)  # 2 bytes
def test_only_so_many_bytes_of_explanations_are_kept(
    workspace: Workspace, network: CimlNetwork, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(segmenter: Segmenter, case: Case, folder: Path) -> None:
        folder.mkdir(parents=True)
        (folder / NUMBERS).write_text(segmenter.published().file.stem.removeprefix("v").lstrip("0"))

    monkeypatch.setattr(web, "IN_USE_S", 0)
    monkeypatch.setattr(web, "write_explanation", write)  # the real one takes seconds each
    for version in (1, 2, 3):
        workspace.models.publish(network, {})
        assert client.get(f"{PATH}/STS_008").json() == version
    kept = (workspace.folders.work / "explanations").glob(f"*/{NUMBERS}")
    assert {path.read_text() for path in kept} == {"2", "3"}


def test_a_process_that_is_no_server_offers_nothing(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "monailabel.app", raising=False)
    assert not offer_page(Served(workspace, CaseDatastore(workspace), Segmenter(workspace)))
