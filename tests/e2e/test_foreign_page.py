"""A web page of another origin, in the browser of a reader: it changes nothing, unless the site lists it."""

from __future__ import annotations

import http.server
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests

from lib.pipeline.settings import read_settings
from lib.pipeline.workspace import Workspace
from tests.conftest import SAMPLES
from tests.support.chromium import Window, chromium, skip_without_chromium
from tests.support.networks import outline_uptake
from tests.support.server import serving
from tests.support.trees import copied, files_below

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

CONF = {"scoring": "quick", "study_labels": "ignore", "prefetch": 0}
NAMES = {
    "model": "ciml",
    "method": "mdal",
    "strategy": "uniform",
    "session_id": "x",
    "id": "STS_002",
    "tag": "final",
}
HIDDEN = (  # not in the OpenAPI document
    ("POST", "/reload"),
    ("POST", "/train/"),
    ("POST", "/scoring/"),
    ("PUT", "/datastore/"),
    ("DELETE", "/datastore/"),
    ("PUT", "/datastore/updatelabelinfo"),
    ("POST", "/infer/wsi/ciml"),
    ("POST", "/proxy/dicom/studies"),
)
# Of the foreign page: each way in which a script can send a request; what it could read of the answers.
TRY_ALL = """async ({ server, calls }) => {
    const read = [];
    for (const [method, path, query] of calls) {
        const url = server + path + query;
        const file = new Blob([new Uint8Array(64)]);
        const form = new FormData();
        for (const name of ["label", "file", "files"]) form.append(name, file, "x.nii.gz");
        form.append("params", "{}"); form.append("info", '{"note": "foreign"}');
        const bodies = [undefined, form, "{}", JSON.stringify({ max_epochs: 1, client_id: "foreign" })];
        for (const body of bodies) {
            const ways = [{ mode: "cors", method, body, credentials: "include" }];
            if (typeof body === "string")
                ways.push({ mode: "cors", method, body, headers: { "Content-Type": "application/json" } });
            if (method === "POST") ways.push({ mode: "no-cors", method, body });
            for (const way of ways) {
                try {
                    const answer = await fetch(url, way);
                    if (answer.type !== "opaque") read.push([method, path, answer.status]);
                } catch (error) { /* the browser refused it */ }
            }
        }
    }
    return read;
}"""
SEND_FORM = """async url => {
    const form = document.createElement("form");
    const frame = document.createElement("iframe");
    frame.name = "aside";
    document.body.append(frame, form);
    Object.assign(form, { method: "POST", action: url, target: "aside", enctype: "text/plain" });
    const done = new Promise(resolve => frame.addEventListener("load", resolve, { once: true }));
    form.submit();
    await Promise.race([done, new Promise(resolve => setTimeout(resolve, 3000))]);
}"""


@contextmanager
def empty_page() -> Iterator[str]:
    """Origin of a page without anything."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b"<!doctype html><title>elsewhere</title><body>")

        def log_message(self, *arguments: Any) -> None:
            """Nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{listening.server_port}"
        finally:
            listening.shutdown()


def state_changing(server: str) -> list[tuple[str, str, str]]:
    """Method, path and query of every request that could change something."""
    schema = requests.get(f"{server}/openapi.json", timeout=60).json()
    calls = [
        (method.upper(), path)
        for path, operations in schema["paths"].items()
        for method in operations
        if method not in ("get", "head", "options")
    ]
    assert len(calls) > 15
    query = "?image=STS_002&label=STS_002&id=STS_002&tag=final"
    for name, value in NAMES.items():
        calls = [(method, path.replace(f"{{{name}}}", value)) for method, path in calls]
    assert not any("{" in path for _, path in calls)
    return [(method, path, query) for method, path in (*calls, *HIDDEN)]


def tell(server: str, studies: Path) -> dict[str, Any]:
    """Everything that a request could have changed."""
    info = requests.get(f"{server}/info/", timeout=60).json()
    tasks = {
        name: requests.get(f"{server}/{name}?all=true", timeout=60).text
        for name in ("train/", "scoring/", "batch/infer")
    }
    kept = files_below(studies, without=(studies / ".mdal" / "tmp",))
    return {
        "datastore": info["datastore"],
        "tasks": tasks,
        "files": {path: stamp for path, stamp in kept.items() if "-wal" not in path and "-shm" not in path},
        "readers": requests.get(f"{server}/mdal/api/today", timeout=60).json()["readers"],
        "model": requests.get(f"{server}/mdal/api/model", timeout=60).json()["answers"],
    }


def test_a_foreign_page_changes_nothing_and_a_listed_one_is_answered(tmp_path: Path) -> None:
    skip_without_chromium()
    studies = copied(SAMPLES, tmp_path / "studies", "STS_002", "STS_008")
    outline_uptake(Workspace(studies, read_settings({key: str(value) for key, value in CONF.items()})))
    contour = shutil.copy(SAMPLES / "STS_002" / "GTV.nii.gz", tmp_path / "GTV.nii.gz")
    with empty_page() as foreign, empty_page() as listed:
        conf = {**CONF, "allowed_origins": listed, "model_upload": "true"}
        quiet = {"MONAI_LABEL_AUTO_UPDATE_SCORING": "false"}
        with serving(studies, conf=conf, environment=quiet) as server, chromium() as window:
            with open(contour, "rb") as file:
                requests.put(
                    f"{server}/datastore/label?image=STS_002", files={"label": file}, timeout=60
                ).raise_for_status()  # as Slicer does; and there is something that could be deleted
            before, calls = tell(server, studies), state_changing(server)
            for page in (foreign, foreign.replace("127.0.0.1", "localhost")):
                visit(window, page)
                assert window.page.evaluate(TRY_ALL, {"server": server, "calls": calls}) == []
                window.page.evaluate(SEND_FORM, f"{server}/train/ciml")
                window.page.evaluate(SEND_FORM, f"{server}/activelearning/random")
                assert tell(server, studies) == before
            visit(window, listed)
            answers = window.page.evaluate(
                TRY_ALL, {"server": server, "calls": [("POST", "/activelearning/uniform", "")]}
            )
            assert ["POST", "/activelearning/uniform", 200] in answers
            assert tell(server, studies) != before


def visit(window: Window, page: str) -> None:
    """Open a page; the browser reaches this machine under this name too."""
    window.page.unroute_all()
    window.page.goto(page)
