from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests
import torch

from lib.pipeline.settings import AppSettings
from lib.pipeline.workspace import Workspace
from lib.server.datastore import CaseDatastore
from lib.server.errors import ClientError
from lib.server.tasks.train import CimlTrain
from tests.conftest import SAMPLES
from tests.support.server import serving, wait_until

Samples = Callable[..., Path]
PATHS = ("name", "train_ds", "val_ds", "bundle_path", "pretrained_path", "output")


@pytest.fixture
def workspace(samples: Samples) -> Workspace:
    return Workspace(samples("STS_025", "STS_008", "STS_042"), AppSettings(train_epochs=1))


def test_too_few_labels_are_refused_with_how_many_are_missing(samples: Samples) -> None:
    workspace = Workspace(samples("STS_025", "STS_008", labels=False), AppSettings())
    with pytest.raises(ClientError, match=r"at least 2 patients; there are 0\. Label 2 more"):
        CimlTrain(workspace)({}, CaseDatastore(workspace))
    assert "Label 2 more" in CimlTrain(workspace).stats()["message"]


@pytest.mark.parametrize("epochs", ["many", 0, -1, 1.5, True, None])
def test_a_number_of_epochs_that_is_none_is_refused(workspace: Workspace, epochs: object) -> None:
    with pytest.raises(ClientError, match="max_epochs must be a whole number"):
        CimlTrain(workspace)({"max_epochs": epochs}, CaseDatastore(workspace))


def test_a_client_asks_for_as_many_epochs_as_the_configuration_offers_or_for_others(
    workspace: Workspace,
) -> None:
    for id in ("STS_008", "STS_042"):  # so that no training gets to an epoch
        damaged = workspace.folders.studies / id / "CT.nii.gz"
        damaged.write_bytes(damaged.read_bytes()[:3000])
    asked, task = [], CimlTrain(workspace)
    assert task.config() == {"max_epochs": 1}
    for request in (task.config(), {"max_epochs": 7, "model": "ciml", "device": "cuda", "gpus": "all"}, {}):
        with pytest.raises(ClientError, match=r"STS_008 is not learned from.*STS_042 is not"):
            task(request, CaseDatastore(workspace))
        asked.append(task.stats()["total_epochs"])
    assert asked == [1, 7, 1]


def test_a_quarantined_case_is_not_trained_on_in_a_process_that_did_not_check(
    samples: Samples,
) -> None:
    studies = samples("STS_025", "STS_019")
    Workspace(studies, AppSettings()).check()
    workspace = Workspace(studies, AppSettings())
    assert workspace.labels.labelled() == {"STS_025", "STS_019"}
    with pytest.raises(ClientError, match=r"at least 2 patients; there are 1\. Label 1 more"):
        CimlTrain(workspace)({}, CaseDatastore(workspace))


@pytest.mark.slow
def test_a_first_training_publishes_a_model_whatever_paths_a_client_sends(
    workspace: Workspace, tmp_path: Path
) -> None:
    threads = torch.get_num_threads()
    outside = {path for path in tmp_path.rglob("*") if not path.is_relative_to(workspace.folders.work)}
    paths = {name: str(tmp_path / "elsewhere" / name) for name in PATHS}
    stats = CimlTrain(workspace)({"max_epochs": 1, **paths}, CaseDatastore(workspace))
    torch.set_num_threads(threads)
    assert (stats["published"], stats["version"], stats["epoch"]) == (True, 1, 1)
    assert stats["training_cases"] + stats["validation_cases"] == 3
    assert CimlTrain(workspace).stats() == stats
    assert {
        path for path in tmp_path.rglob("*") if not path.is_relative_to(workspace.folders.work)
    } == outside


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """Address and log of a server of three labelled patients that trains two short epochs."""
    studies = tmp_path_factory.mktemp("served") / "studies"
    for id in ("STS_025", "STS_008", "STS_042"):
        shutil.copytree(SAMPLES / id, studies / id)
    log, quiet = studies.parent / "log", {"MONAI_LABEL_AUTO_UPDATE_SCORING": "false"}
    with serving(studies, conf={"train_epochs": 2}, log=log, environment=quiet) as address:
        yield address, log


def trainings(log: Path) -> list[psutil.Process]:
    """The processes that train for the server with this log."""
    found = []
    for process in psutil.process_iter():
        try:
            ours = process.environ().get("MONAI_LABEL_STUDIES", "").startswith(str(log.parent))
            if ours and "monailabel.interfaces.utils.app" in process.cmdline():
                found.append(process)
        except psutil.Error:  # another user's, or just gone
            continue
    return found


def stats_of(address: str) -> dict[str, Any]:
    stats: dict[str, Any] = requests.get(f"{address}/info/", timeout=60).json()["train_stats"]["ciml"]
    return stats


@pytest.mark.slow
@pytest.mark.e2e
@pytest.mark.alone
def test_a_cancelled_training_is_gone_in_two_seconds_and_the_next_one_goes_on(
    server: tuple[str, Path],
) -> None:
    address, log = server
    requests.post(f"{address}/train/ciml", json={}, timeout=60).raise_for_status()
    wait_until(lambda: stats_of(address).get("epoch", 0) >= 1, seconds=300, what="an epoch", log=log)
    assert stats_of(address)["state"] == "running"
    running = trainings(log)
    assert running
    start = time.monotonic()
    requests.delete(f"{address}/train/", timeout=60).raise_for_status()
    _, alive = psutil.wait_procs(running, timeout=2.0 - (time.monotonic() - start))
    assert not alive
    assert not trainings(log)
    stopped = stats_of(address)
    assert stopped["state"] == "stopped"
    assert f"stopped after epoch {stopped['epoch']} of 2" in stopped["message"]
    requests.post(f"{address}/train/ciml", json={}, timeout=60).raise_for_status()
    wait_until(lambda: stats_of(address).get("state") == "done", seconds=300, what="the training", log=log)
    assert stats_of(address)["published"]
    assert f"training goes on after epoch {stopped['epoch']}" in log.read_text()


@pytest.mark.slow
@pytest.mark.e2e
@pytest.mark.alone
def test_a_folder_that_a_client_names_is_never_imported_from(
    server: tuple[str, Path], tmp_path: Path
) -> None:
    address, log = server
    (tmp_path / "sitecustomize.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\n")
    names = dict.fromkeys(PATHS, str(tmp_path))
    refused = requests.post(f"{address}/train/ciml", json={**names, "max_epochs": 0}, timeout=60)
    assert (refused.status_code, "max_epochs must be a whole number" in refused.text) == (400, True)
    started = requests.post(f"{address}/train/ciml?enqueue=true", json={**names, "max_epochs": 1}, timeout=60)
    assert str(tmp_path) not in started.text

    def ended() -> bool:
        status = requests.get(f"{address}/train/", timeout=60).json()["status"]
        return status in ("DONE", "ERROR")

    wait_until(ended, seconds=300, what="the training", log=log)
    assert not (tmp_path / "ran").exists()
