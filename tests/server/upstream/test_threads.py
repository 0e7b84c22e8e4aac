"""Endpoints of MONAI Label in threads: who asks for little is answered while others wait for much."""

from __future__ import annotations

import asyncio
import gzip
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests
import torch
from fastapi import FastAPI
from httpx import ASGITransport, AsyncClient, Response
from monailabel.endpoints import datastore, infer, info, proxy, scoring, train

from lib.ciml.network.ciml_network import CimlNetwork
from lib.ciml.network.settings import NetworkSettings
from lib.labels.origin import Saved
from lib.labels.versions import LabelVersion
from lib.pipeline.settings import read_settings
from lib.pipeline.workspace import Workspace
from lib.server.errors import ClientError
from lib.server.upstream import proxy as web_proxy
from lib.server.upstream.threads import WorkerPools, keep_loop_free
from tests.support.server import serving

SMALL = NetworkSettings(channels=(4, 8), strides=((1, 2, 2), (2, 2, 2)), message_channels=2, message_levels=2)
MoveStudies = Callable[[str], None]
PATIENCE = 20.0  # seconds after which a test ends although nothing came


class Slow:
    """Stands in for an app whose inference, archive and listing last until they are let go."""

    def __init__(self, folder: Path) -> None:
        self.go, self.folder, self.running = threading.Event(), folder, 0
        self.images: list[str] = []

    def info(self) -> dict[str, Any]:
        return {"name": "slow", "scoring": {}, "trainers": {}}

    def datastore(self) -> Slow:
        return self

    def infer(self, request: dict[str, Any]) -> dict[str, Any]:
        if request["image"] == "wrong":
            raise ClientError("image must be the id of a case.", status=404)
        self.running += 1
        assert self.go.wait(PATIENCE)
        self.images.append(request["image"])
        file = self.folder / f"{request['image']}.nii.gz"
        file.write_bytes(b"label")
        return {"file": str(file), "params": {"image": request["image"]}}

    def submit(self, image: str, file: Path, tag: str, info: dict[str, Any], reader: str) -> Saved:
        self.saved = (image, file.read_bytes(), tag, info)
        return Saved(LabelVersion(image, tag, "submitted", "", 1), None)

    def on_save_label(self, image: str, label: str) -> dict[str, Any]:
        return {}

    def json(self) -> dict[str, Any]:
        return {"objects": {}}


@pytest.fixture
def slow(tmp_path: Path, load_app: Callable[[Slow], Slow]) -> Slow:
    return load_app(Slow(tmp_path))


@pytest.fixture
def server(slow: Slow, become_server: Callable[[FastAPI], FastAPI]) -> FastAPI:
    """An application with MONAI Label's own routers, as a server process has it."""
    application = become_server(FastAPI())
    for endpoints in (info, infer, datastore, train, scoring, proxy):
        application.include_router(endpoints.router)
    assert keep_loop_free()
    assert keep_loop_free()  # the app was made anew
    return application


def asking(server: FastAPI, talk: Callable[[AsyncClient], Coroutine[Any, Any, Any]]) -> Any:
    """What a conversation ends with; all its requests are answered by one event loop."""

    async def ask() -> Any:
        transport = ASGITransport(server, raise_app_exceptions=False)
        async with AsyncClient(transport=transport, base_url="http://server") as client:
            return await asyncio.wait_for(talk(client), PATIENCE)

    return asyncio.run(ask())


def inference(client: AsyncClient, image: str) -> asyncio.Task[Response]:
    return asyncio.create_task(client.post(f"/infer/ciml?image={image}&output=json"))


def test_a_client_is_answered_while_inferences_run(server: FastAPI, slow: Slow) -> None:
    async def talk(client: AsyncClient) -> None:
        inferences = [inference(client, f"case{number}") for number in range(10)]
        while slow.running < 4:
            await asyncio.sleep(0.01)
        answer = await client.get("/info/")
        assert answer.json()["name"] == "slow"
        assert (await client.get("/datastore/?output=all")).json() == {"objects": {}}
        assert (await client.post("/train/")).json() == {}
        assert not any(task.done() for task in inferences)
        slow.go.set()
        for number, task in enumerate(inferences):
            assert (await task).json() == {"image": f"case{number}"}

    asking(server, talk)
    assert sorted(slow.images) == [f"case{number}" for number in range(10)]


def test_past_the_limit_a_client_is_told_when_to_come_again(server: FastAPI, slow: Slow) -> None:
    pool = server.state.pools.computing
    pool.places = 2

    async def talk(client: AsyncClient) -> None:
        inferences = [inference(client, f"case{number}") for number in range(pool.workers + pool.places)]
        await asyncio.sleep(0.05)
        refused = await inference(client, "one_more")
        assert refused.status_code == 503
        assert refused.headers["Retry-After"] == str(pool.retry_after)
        assert refused.json()["detail"].startswith(
            "The server is busy: 6 requests like this one run or wait."
        )
        assert (await client.get("/info/")).status_code == 200
        slow.go.set()
        assert {(await task).status_code for task in inferences} == {200}
        assert (await inference(client, "one_more")).status_code == 200

    asking(server, talk)


def test_a_request_that_was_given_up_leaves_its_place(server: FastAPI, slow: Slow) -> None:
    pool = server.state.pools.computing
    pool.places = 0

    async def talk(client: AsyncClient) -> None:
        inferences = [inference(client, f"case{number}") for number in range(pool.workers)]
        while slow.running < pool.workers:
            await asyncio.sleep(0.01)
        for task in inferences:
            task.cancel()
        slow.go.set()
        await asyncio.gather(*inferences, return_exceptions=True)
        while (answer := await inference(client, "next")).status_code == 503:
            await asyncio.sleep(0.01)  # until what nobody waits for is done
        assert answer.status_code == 200

    asking(server, talk)


def test_a_label_is_saved_and_a_refusal_reaches_the_client_as_before(server: FastAPI, slow: Slow) -> None:
    async def talk(client: AsyncClient) -> None:
        running = inference(client, "case")
        file = {"label": ("label.nii.gz", b"x" * 3_000_000)}  # past what is kept in memory
        saved = await client.put(
            "/datastore/label?image=a&tag=final", files=file, data={"params": '{"n": 1}'}
        )
        assert saved.json() == {"image": "a", "label": "a", "version": 1, "warnings": []}
        wrong = await inference(client, "wrong")
        assert (wrong.status_code, wrong.json()["detail"]) == (404, "image must be the id of a case.")
        assert (await client.put("/datastore/label")).status_code == 422
        slow.go.set()
        await running

    asking(server, talk)
    assert slow.saved == ("a", b"x" * 3_000_000, "final", {"n": 1})


def test_the_file_of_an_inference_is_sent_then_removed(server: FastAPI, slow: Slow) -> None:
    slow.go.set()
    answer = asking(server, lambda client: client.post("/infer/ciml?image=case&output=image"))
    assert answer.content == b"label"
    assert not (slow.folder / "case.nii.gz").exists()  # by the endpoint's background task


@pytest.fixture
def move_studies_to(
    configure: Callable[..., None], load_app: Callable[[Slow], Slow], slow: Slow
) -> MoveStudies:
    """Have MONAI Label's studies in a PACS at another address."""

    def move(address: str) -> None:
        configure(STUDIES=address)
        load_app(slow)

    return move


@pytest.fixture
def pacs() -> Iterator[tuple[str, threading.Event]]:
    """A DICOMweb server that hangs until it is let go, and echoes what is posted to it."""
    go = threading.Event()

    class Pacs(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            go.wait(PATIENCE)
            length = int(self.headers.get("Content-Length") or 0)
            body = self.rfile.read(length) or self.path.encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/dicom")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Pacs) as pacs:
        threading.Thread(target=pacs.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{pacs.server_address[1]}/dicom-web", go
        go.set()
        pacs.shutdown()


def test_a_pacs_that_hangs_stops_nothing_but_its_images(
    server: FastAPI, slow: Slow, pacs: tuple[str, threading.Event], move_studies_to: MoveStudies
) -> None:
    url, go = pacs
    move_studies_to(url)
    images = 3 * server.state.pools.images.workers

    async def talk(client: AsyncClient) -> None:
        tasks = [
            asyncio.create_task(client.get(f"/proxy/dicom/wado/studies/{number}")) for number in range(images)
        ]
        posted = asyncio.create_task(client.post("/proxy/dicom/stow/studies", content=b"SEG" * 1_000_000))
        await asyncio.sleep(0.1)
        assert (await client.get("/info/")).status_code == 200
        slow.go.set()
        assert (await inference(client, "case")).status_code == 200
        assert not any(task.done() for task in tasks)
        go.set()
        for number, task in enumerate(tasks):
            assert (await task).content == f"/dicom-web/studies/{number}".encode()
        assert (await posted).content == b"SEG" * 1_000_000

    asking(server, talk)


def test_what_computes_in_the_request_itself_runs_where_inferences_do() -> None:
    pools = WorkerPools()
    assert pools.of(train.api_run, {"run_sync": True}) is pools.computing
    assert pools.of(train.api_run, {"run_sync": False}) is pools.tasks
    assert pools.of(datastore.api_download_dataset, {}) is pools.computing
    assert pools.of(datastore.api_download_image, {}) is pools.transfers
    assert pools.of(info.api_app_info, {}) is pools.light


def test_a_process_that_is_no_server_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "monailabel.app", raising=False)
    assert not keep_loop_free()


@pytest.mark.parametrize(
    "path", ["..%2Ftools%2Fexecute-script", "studies/..%2F..%2Fsystem", "%252E%252E/system", "a%3Fb"]
)
def test_the_proxy_stays_within_dicomweb(path: str, server: FastAPI, slow: Slow) -> None:
    for method in ("GET", "POST"):
        answer = asking(
            server, lambda client, method=method: client.request(method, f"/proxy/dicom/wado/{path}")
        )
        assert answer.status_code == 404
        assert "must lie in the DICOMweb" in answer.text


def test_a_pacs_that_is_down_or_hangs_is_said(
    server: FastAPI,
    pacs: tuple[str, threading.Event],
    move_studies_to: MoveStudies,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(web_proxy, "PROXY_TIMEOUT_S", (0.2, 0.2))
    for url, kind in ((pacs[0], "ReadTimeout"), ("http://127.0.0.1:9/dicom-web", "ConnectionError")):
        move_studies_to(url)
        answer = asking(server, lambda client: client.get("/proxy/dicom/wado/studies/1"))
        assert answer.status_code == 502
        assert answer.json()["detail"] == f"the PACS must answer; it does not ({kind}). Try again."


@pytest.mark.e2e
@pytest.mark.slow
def test_readers_who_ask_for_everything_at_once_get_it(samples: Callable[..., Path], tmp_path: Path) -> None:
    """Two inferences of a case, Next Samples, labels of others and listings, each in a thread of its own."""
    ids = ("STS_002", "STS_008", "STS_012", "STS_025")
    studies = samples(*ids)
    workspace = Workspace(studies, read_settings({"study_labels": "ignore"}))
    torch.manual_seed(0)
    workspace.models.publish(
        CimlNetwork(workspace.decomposition, workspace.preparation.modalities, SMALL), {}
    )
    labels = {id: (studies / id / "GTV.nii.gz").read_bytes() for id in ids}
    conf = {"study_labels": "ignore", "prefetch": 0}
    environment = {"MONAI_LABEL_AUTO_UPDATE_SCORING": "false"}
    with serving(studies, conf=conf, environment=environment) as address, ThreadPoolExecutor(24) as readers:

        def infer(id: str) -> bytes:
            answer = requests.post(f"{address}/infer/ciml?image={id}&output=image", timeout=300)
            answer.raise_for_status()
            return answer.content

        def save(id: str) -> None:
            file = {"label": ("label.nii.gz", labels[id])}
            requests.put(f"{address}/datastore/label?image={id}", files=file, timeout=300).raise_for_status()

        def look(_: int) -> dict[str, Any]:
            listed = requests.get(f"{address}/datastore/?output=all", timeout=300)
            listed.raise_for_status()
            return dict(listed.json()["objects"])

        def ask(number: int) -> str:
            reader = {"client_id": f"reader {number}"}
            answer = requests.post(f"{address}/activelearning/random", json=reader, timeout=300)
            answer.raise_for_status()
            return str(answer.json()["id"])

        inferred = [readers.submit(infer, id) for id in ids * 2]
        offered = list(readers.map(ask, range(len(ids))))
        assert sorted(offered) == sorted(ids)  # never two readers the same case
        saved = [readers.submit(save, id) for id in ids]
        for listing in readers.map(look, range(20)):
            assert listing.keys() == set(ids)
        for task in saved:
            task.result()
        assert all("final" in record["labels"] for record in look(0).values())
        assert requests.get(f"{address}/info/", timeout=60).json()["datastore"]["completed"] == len(ids)
        files = [task.result() for task in inferred]
        assert [gzip.decompress(file) for file in files[: len(ids)]] == [
            gzip.decompress(file) for file in files[len(ids) :]
        ]
