"""What a live server does with requests that it must refuse, and what is left of those that it answers."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
import tarfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests

from benchmarks.common.server import wait_until
from tests.conftest import SAMPLES
from tests.support.bad_requests import bad_requests
from tests.support.server import ROOT, serving
from tests.support.trees import copied, files_below

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

CONF = {"scoring": "quick", "study_labels": "ignore", "prefetch": 0}
GOOD = {  # of parameters, so that requests also get past the first look
    "image": "STS_002",
    "id": "STS_002",
    "case": "STS_002",
    "label": "STS_002",
    "model": "ciml",
    "method": "mdal",
    "strategy": "uniform",
    "tag": "final",
    "modality": "CT",
    "first": "CT",
    "second": "PET",
    "sender": "CT",
    "subtask": "PET",
    "measure": "kl",
    "output": "json",
}

GENERATING_S = 50  # enough to reach every operation in every phase


@dataclass
class Served:
    """A server, and everything that it could have written to."""

    address: str
    root: Path

    @property
    def work(self) -> Path:
        return self.root / "studies" / ".mdal"

    @property
    def log(self) -> str:
        return (self.root / "log").read_text()

    def process(self) -> psutil.Process:
        listening = (each for each in psutil.net_connections("tcp") if each.status == psutil.CONN_LISTEN)
        port = int(self.address.rpartition(":")[2])
        return psutil.Process(next(each.pid for each in listening if each.laddr.port == port))

    def runs_a_job(self) -> bool:
        """Whether a scoring, training or batch inference runs, of those that an earlier test asked for."""
        for kind in ("train/", "scoring/", "batch/infer"):
            answer = requests.get(f"{self.address}/{kind}?all=true", timeout=60)  # 404 before the first
            tasks = answer.json() if answer.status_code == 200 else []
            if any(task["status"] in ("SUBMITTED", "RUNNING") for task in tasks):
                return True
        return False

    def outside(self) -> dict[str, tuple[int, int]]:
        """Size and time of every file that no request may touch."""
        return files_below(self.root, without=(self.work, self.root / "log"))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    root = tmp_path_factory.mktemp("exposed")
    for name in ("home", "system-tmp"):
        (root / name).mkdir()
    studies = copied(SAMPLES, root / "studies", "STS_002", "STS_008")
    environment = {
        "HOME": str(root / "home"),
        "TMPDIR": str(root / "system-tmp"),
        "MONAI_LABEL_AUTO_UPDATE_SCORING": "false",
    }
    with serving(studies, conf=CONF, environment=environment, log=root / "log") as address:
        yield Served(address, root)


def tar_of(*members: tuple[str, bytes | None, str], kind: bytes = tarfile.REGTYPE) -> bytes:
    """A tar; a member without content is a link, or what `kind` says."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content, target in members:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = (tarfile.REGTYPE, "") if content is not None else (kind, target)
            member.size = len(content or b"")
            archive.addfile(member, io.BytesIO(content or b""))
    return buffer.getvalue()


def zip_of(*names: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(name, b"x")
    return buffer.getvalue()


def zeros(gigabytes: int) -> bytes:
    """A gzipped tar with one member of so many zeros; a compressed piece of them is repeated."""
    member = tarfile.TarInfo("zeros")
    member.size = gigabytes << 30
    packer = zlib.compressobj(9, wbits=31)
    start = packer.compress(member.tobuf(tarfile.GNU_FORMAT)) + packer.flush(zlib.Z_FULL_FLUSH)
    pieces = [packer.compress(bytes(1 << 26)) + packer.flush(zlib.Z_FULL_FLUSH) for _ in range(2)]
    return start + pieces[1] * (gigabytes << 4)


ARCHIVES: dict[str, Callable[[Path], bytes]] = {
    "a tar that climbs": lambda _: tar_of(("../../../climbed", b"x", "")),
    "a tar with an absolute name": lambda root: tar_of((f"{root}/home/absolute", b"x", "")),
    "a tar with a link and a file through it": lambda root: tar_of(
        ("way", None, f"{root}/home"), ("way/through", b"x", ""), kind=tarfile.SYMTYPE
    ),
    "a tar with a hard link": lambda root: tar_of(
        ("way", None, f"{root}/studies/STS_002/CT.nii.gz"), ("way", b"x", ""), kind=tarfile.LNKTYPE
    ),
    "a tar with a device": lambda _: tar_of(("null", None, ""), kind=tarfile.CHRTYPE),
    "a tar with a pipe": lambda _: tar_of(("pipe", None, ""), kind=tarfile.FIFOTYPE),
    "a tar of a hundred thousand members": lambda _: tar_of(("many", b"", ""))[:512] * 100_000,
    "a tar of 10 GB of zeros": lambda _: zeros(10),
    "a zip that climbs": lambda _: zip_of("../../../climbed", "..\\..\\climbed"),
    "a zip with an absolute name": lambda root: zip_of(f"{root}/home/absolute"),
    "a zip of a hundred thousand members": lambda _: zip_of(*(f"m{number}" for number in range(100_000))),
    "no archive": lambda _: b"no archive at all",
}
NAMES = ("../x.nii.gz", "/x.nii.gz", "a\0b.nii.gz", "%2e%2e%2fx.nii.gz", "x" * 300 + ".nii.gz", "", ".nii.gz")


@pytest.mark.parametrize("kind", ARCHIVES)
def test_an_archive_that_a_client_sends_changes_nothing_outside(served: Served, kind: str) -> None:
    content, before = ARCHIVES[kind](served.root), served.outside()
    suffix = "zip" if "zip" in kind else "tar.gz" if "zeros" in kind else "tar"
    for path, field in (
        ("/session/?uncompress=true", "files"),
        ("/session/", "files"),
        ("/datastore/label?image=STS_002", "label"),
        ("/datastore/image?image=new", "file"),
        ("/model/ciml", "file"),
    ):
        files = {field: (f"x.{suffix}", io.BytesIO(content))}
        answer = requests.put(f"{served.address}{path}", files=files, timeout=60)
        assert 400 <= answer.status_code < 500, (path, answer.text)
        assert len(answer.json()["detail"]) > 20
    answer = requests.post(
        f"{served.address}/infer/ciml", files={"file": (f"x.{suffix}", content)}, timeout=60
    )
    assert answer.status_code == 400
    assert served.outside() == before


@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_a_client_gives_changes_nothing_outside(served: Served, name: str) -> None:
    id = "STS_002"
    contour, before = (SAMPLES / id / "GTV.nii.gz").read_bytes(), served.outside()
    answers = [
        requests.put(f"{served.address}{path}", files={field: (name, contour)}, timeout=60)
        for path, field in (
            ("/session/", "files"),
            ("/datastore/label?image=STS_002", "label"),
            ("/datastore/image", "file"),
            ("/datastore/", "file"),
            ("/model/ciml", "file"),
        )
    ]
    answers += [
        requests.put(
            f"{served.address}/datastore/label",
            params={"image": image, "tag": tag},
            files={"label": ("x.nii.gz", contour)},
            timeout=60,
        )
        for image, tag in ((name, "final"), ("STS_002", name or "."))
    ]
    stored = [answer for answer in answers if answer.status_code == 200]
    assert all((answer.json()["image"], answer.json()["label"]) == (id, id) for answer in stored)
    assert all(answer.status_code < 500 for answer in answers), [answer.text for answer in answers]
    changed = {path for path, stamp in served.outside().items() if before.get(path) != stamp}
    versions = served.root / "studies" / "labels" / "final" / id
    assert {str(Path(path).relative_to(versions)).partition("/")[2] for path in changed} <= {
        f"{id}.nii.gz",
        "version.json",
    }


def test_every_endpoint_answers_what_it_cannot_do_with_a_sentence_and_no_5xx(
    served: Served, tmp_path: Path
) -> None:
    schema = requests.get(f"{served.address}/openapi.json", timeout=60).json()
    client, asked = requests.Session(), 0
    for bad in bad_requests(schema, GOOD):
        answer = client.request(bad.method, f"{served.address}{bad.path}", timeout=60, **bad.options)
        asked += 1
        assert answer.status_code < 500 or answer.status_code == 503, (bad, answer.text)
        if answer.status_code >= 400 and bad.method != "head":
            sentence = answer.json()["detail"]
            assert isinstance(sentence, str), (bad, sentence)
            assert 15 < len(sentence) < 2000, (bad, sentence)
    asked += generated_requests(served, schema, tmp_path)
    assert asked >= 2000
    hidden = ("/ohif/..", "/ohif/%2e%2e", "/ohif/a/../..", "/proxy/dicom/x", "/proxy/dicom/wado/..", "/docs")
    for path in hidden:
        answer = requests.Request("GET", f"{served.address}{path}").prepare()
        answer.url = f"{served.address}{path}"  # as it is, not shortened
        assert requests.Session().send(answer, timeout=60).status_code < 500
    assert "Traceback" not in served.log


def generated_requests(served: Served, schema: dict[str, Any], folder: Path) -> int:
    """Send what schemathesis generates from the OpenAPI; returns the number of requests."""
    for operation in (each for path in schema["paths"].values() for each in path.values()):
        for parameter in operation.get("parameters", []):
            if parameter["name"] in GOOD:
                parameter["example"] = GOOD[parameter["name"]]
    (folder / "openapi.json").write_text(json.dumps(schema))
    command = [str(Path(sys.executable).parent / "schemathesis"), "run", "openapi.json"]
    command += ["--url", served.address, "--checks", "not_a_server_error", "--seed", "1"]
    command += ["--max-time", str(GENERATING_S), "--phases", "examples,coverage,fuzzing"]
    command += ["--continue-on-failure", "--warnings", "off", "--suppress-health-check", "all"]
    command += ["--request-timeout", "60"]  # of a busy machine
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 0, ended.stdout[-8000:]
    found = re.search(r"(\d+) generated", ended.stdout)
    assert found, ended.stdout[-2000:]
    return int(found[1])


def test_a_job_that_is_refused_ends_with_its_sentence_in_the_log_and_no_traceback(served: Served) -> None:
    wait_until(lambda: not served.runs_a_job(), seconds=120, what="the end of what was asked for before")
    answer = requests.post(f"{served.address}/train/ciml?run_sync=false", json={}, timeout=60)
    assert answer.status_code == 200, answer.text
    deadline = time.monotonic() + 120
    while "training needs final labels" not in served.log and time.monotonic() < deadline:
        time.sleep(0.5)
    # what was generated may have made a version of the one label current again
    assert re.search(r"training needs final labels of at least 2 patients; there are [01]\.", served.log)
    assert "Traceback" not in served.log


KINDS: dict[str, Callable[[Served, requests.Session], requests.Response]] = {
    "infer": lambda served, client: client.post(
        f"{served.address}/infer/ciml?image=STS_002&output=image", timeout=60
    ),
    "infer with its numbers": lambda served, client: client.post(
        f"{served.address}/infer/ciml?image=STS_008_CT", timeout=60
    ),
    "image": lambda served, client: client.get(
        f"{served.address}/datastore/image?image=STS_002_PET", timeout=60
    ),
    "label": lambda served, client: client.put(
        f"{served.address}/datastore/label?image=STS_002",
        files={"label": ("GTV.nii.gz", (SAMPLES / "STS_002" / "GTV.nii.gz").read_bytes())},
        timeout=60,
    ),
    "archive": lambda served, client: client.get(f"{served.address}/datastore/dataset", timeout=60),
    "session": lambda served, client: client.put(
        f"{served.address}/session/", files={"files": ("x.nii.gz", bytes(1000))}, timeout=60
    ),
}


def test_five_hundred_requests_of_each_kind_leave_no_file_no_descriptor_and_no_memory(
    served: Served,
) -> None:
    client, process = requests.Session(), served.process()

    def ask(kind: str, times: int) -> None:
        for _ in range(times):
            answer = KINDS[kind](served, client)
            assert answer.status_code == (403 if kind == "session" else 200), answer.text

    def state() -> dict[str, Any]:
        left = [path for path in files_below(served.work / "tmp") if not path.endswith("/.lock")]
        system = list(files_below(served.root / "system-tmp"))
        return {
            "files": left + [path for path in system if not path.endswith(".json")],
            "system": len(system),
        }

    for kind in KINDS:
        ask(kind, 20)  # what is loaded or made once
    wait_until(lambda: not served.runs_a_job(), seconds=120, what="the end of what was asked for before")
    wait_until(lambda: state()["files"] == [], seconds=30, what="the sweep after stopped jobs")
    before, descriptors, memory = state(), process.num_fds(), process.memory_info().rss
    for kind in KINDS:
        ask(kind, 500)
    assert state() == before
    assert process.num_fds() <= descriptors + 2  # a connection may be closing
    grown = (process.memory_info().rss - memory) / 1e6
    assert grown < 100, grown


def test_the_docs_name_every_endpoint(served: Served) -> None:
    schema = requests.get(f"{served.address}/openapi.json", timeout=60).json()
    told = (ROOT / "docs" / "pacs.md").read_text().partition("## What the server exposes")[2]
    table = told.partition("\n## ")[0]
    assert [path for path in schema["paths"] if f"`{path}`" not in table] == []
