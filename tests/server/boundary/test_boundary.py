"""What a request passes before an endpoint sees it, and an answer before a client does."""

from __future__ import annotations

import errno
import logging
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from typing import Annotated, Any

import pytest
from fastapi import Body, FastAPI, Request, UploadFile
from fastapi.middleware import Middleware
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import HTMLResponse, JSONResponse
from fastapi.testclient import TestClient
from monailabel.interfaces.exception import MONAILabelError, MONAILabelException
from sqlalchemy.exc import OperationalError

from lib.pipeline.settings import AppSettings
from lib.runtime.errors import UserError
from lib.runtime.own_files import NoRoom, Unavailable
from lib.server.boundary.middleware import set_boundary
from lib.server.errors import ClientError


def of_sqlite(code: int) -> sqlite3.Error:
    """Error of SQLite with this code."""
    error = sqlite3.OperationalError("secret")
    error.sqlite_errorcode = code
    return error


Open = Callable[..., TestClient]
FAULTS: dict[str, tuple[Exception, int, str]] = {
    "unexpected": (KeyError("secret"), 500, "under error"),
    "a case": (UserError("CT must be whole; it ends early."), 409, "ends early"),
    "a file of ours": (Unavailable("the register must be whole; restore it."), 503, "restore it"),
    "refused": (ClientError("no such case.", status=404), 404, "no such case"),
    "the framework's": (MONAILabelException(MONAILabelError.INVALID_INPUT, "no model"), 400, "no model"),
    "a full disk": (OSError(errno.ENOSPC, "No space left on device"), 507, "room"),
    "a quota": (OSError(errno.EDQUOT, "Disk quota exceeded"), 507, "room"),
    "a disk that cannot be written": (OSError(errno.EROFS, "Read-only file system"), 507, "allowed to"),
    "a folder of somebody else": (PermissionError(errno.EACCES, "secret"), 507, "allowed to"),
    "a name of 300 characters": (OSError(errno.ENAMETOOLONG, "secret"), 400, "at most 255 bytes"),
    "a disk that was taken away": (FileNotFoundError(errno.ENOENT, "secret"), 503, "not connected"),
    "no file can be opened": (OSError(errno.EMFILE, "secret"), 503, "open files left"),
    "no room for the plan": (NoRoom("the disk must have room. Make room there."), 507, "room"),
    "no room for measurements": (of_sqlite(sqlite3.SQLITE_FULL), 507, "room"),
    "measurements that cannot be written": (of_sqlite(sqlite3.SQLITE_READONLY), 507, "allowed to"),
    "a statement of ours": (of_sqlite(sqlite3.SQLITE_ERROR), 500, "under error"),
    "another system's": (OSError(errno.EIO, "secret"), 500, "under error"),
    "the database": (OperationalError("SELECT secret", {}, Exception("secret")), 503, "database"),
}


@pytest.fixture
def opened(become_server: Callable[[FastAPI], FastAPI]) -> Iterator[Open]:
    """An application as MONAI Label makes it, started, and then within our boundary."""
    every_page = Middleware(CORSMiddleware, allow_origins=["*"], allow_credentials=True, allow_methods=["*"])
    application = FastAPI(middleware=[every_page])

    @application.get("/info/")
    @application.post("/train/ciml")
    @application.put("/session/")
    @application.get("/session/{id}")
    @application.delete("/model/{id}")
    @application.get("/model/{id}")
    @application.get("/logs/")
    @application.post("/batch/infer/{id}")
    @application.get("/static/x.js")
    def answer() -> dict[str, str]:
        return {"done": "it"}

    @application.put("/model/{id}")
    @application.put("/datastore/label")
    def take(file: UploadFile) -> dict[str, int]:
        return {"bytes": len(file.file.read())}

    @application.post("/json")
    async def read(request: Request) -> dict[str, int]:
        return {"bytes": len(await request.body())}

    @application.post("/number")
    def count(number: Annotated[int, Body(embed=True)], twice: bool = False) -> int:
        return number

    @application.get("/page")
    def page() -> HTMLResponse:
        return HTMLResponse("<p>", headers={"Content-Security-Policy": "default-src 'none'"})

    @application.get("/kept")
    def kept() -> JSONResponse:
        return JSONResponse({}, headers={"Cache-Control": "private, no-cache"})

    @application.get("/fault/{kind}")
    def fail(kind: str) -> None:
        raise FAULTS[kind][0]

    become_server(application)
    clients = []

    def client(machine: str = "127.0.0.1", **conf: Any) -> TestClient:
        application.middleware_stack = application.build_middleware_stack()  # as after a start
        assert set_boundary(AppSettings(**conf))
        clients.append(
            TestClient(
                application,
                base_url="http://127.0.0.1:8000",
                client=(machine, 50_000),
                raise_server_exceptions=False,
            )
        )
        return clients[-1]

    yield client
    for each in clients:
        each.close()


def test_other_pages_are_neither_answered_nor_invited(opened: Open) -> None:
    client = opened()
    foreign = {"Origin": "https://evil.example"}
    assert client.post("/train/ciml", headers=foreign).status_code == 403
    asked = {**foreign, "Access-Control-Request-Method": "PUT"}
    invited = client.options("/train/ciml", headers=asked)
    assert not [name for name in invited.headers if name.startswith("access-control")]
    assert "access-control-allow-origin" not in client.get("/info/", headers=foreign).headers


def test_a_listed_page_is_answered_and_may_read_it(opened: Open) -> None:
    client = opened(allowed_origins="https://viewer.example.org")
    listed = {"Origin": "https://viewer.example.org"}
    answer = client.post("/train/ciml", headers=listed)
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, listed["Origin"])
    other = client.get("/info/", headers={"Origin": "https://evil.example"})
    assert "access-control-allow-origin" not in other.headers


def test_a_name_that_the_clinic_lists_reaches_the_server_and_another_does_not(opened: Open) -> None:
    client = opened(allowed_hosts="annotate.example.org")
    listed, other = ({"Host": f"{name}.example.org:8000"} for name in ("annotate", "evil"))
    assert client.get("/info/", headers=listed).status_code == 200
    assert client.get("/info/", headers=other).status_code in (400, 403, 421)


@pytest.mark.parametrize(
    "origin", ["viewer.example.org", "https://a.example/", "*", "ftp://a.example", "null"]
)
def test_what_is_no_origin_cannot_be_listed(origin: str) -> None:
    with pytest.raises(ValueError, match="is no origin"):
        AppSettings(allowed_origins=origin)


@pytest.mark.parametrize(
    ("method", "path", "said"),
    [
        ("PUT", "/session/", "a session holds one"),
        ("GET", "/session/x", "a session holds one"),
        ("POST", "/reload", "Restart the server"),
        ("PUT", "/model/ciml", "model_upload"),
        ("DELETE", "/model/ciml", "Choose another version"),
    ],
)
def test_closed_endpoints_say_what_to_use(opened: Open, method: str, path: str, said: str) -> None:
    answer = opened().request(method, path)
    assert (answer.status_code, said in answer.json()["detail"]) == (403, True)


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/logs/"), ("GET", "/model/ciml"), ("POST", "/batch/infer/ciml"), ("PUT", "/model/ciml")],
)
def test_without_a_login_administration_is_for_the_servers_own_machine(
    opened: Open, configure: Callable[..., None], method: str, path: str
) -> None:
    files = {"file": b"x"} if method == "PUT" else None
    for machine, status in (("127.0.0.1", 200), ("::1", 200), ("::ffff:127.0.0.1", 200), ("10.0.0.7", 403)):
        assert opened(machine, model_upload=True).request(method, path, files=files).status_code == status
    configure(AUTH_ENABLE=True)
    assert opened(model_upload=True).request(method, path, files=files).status_code == 401


def test_a_request_is_bounded_in_bytes_whether_it_says_how_long_it_is_or_not(opened: Open) -> None:
    client = opened(upload_gb=1e-3)
    assert client.put("/datastore/label", files={"file": bytes(900_000)}).json() == {"bytes": 900_000}
    answer = client.put("/datastore/label", files={"file": bytes(1_100_000)})
    assert (answer.status_code, "upload_gb" in answer.json()["detail"]) == (413, True)
    pieces = (bytes(100_000) for _ in range(12))
    assert client.post("/json", content=pieces).status_code == 413


def test_what_an_endpoint_reads_whole_is_bounded_more_closely(opened: Open) -> None:
    assert opened().post("/json", content=bytes(17 << 20)).status_code == 413
    assert opened().post("/json", content=bytes(15 << 20)).status_code == 200


def test_every_answer_carries_the_headers_that_keep_it_private(opened: Open) -> None:
    client = opened()
    for answer in (
        client.get("/info/"),
        client.post("/reload"),
        client.get("/nowhere"),
        client.get("/fault/unexpected"),
    ):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
        assert "frame-ancestors 'self'" in answer.headers["content-security-policy"]
    assert client.get("/page").headers["content-security-policy"] == "default-src 'none'"
    assert client.get("/kept").headers["cache-control"] == "private, no-cache"
    assert client.get("/static/x.js").headers["cache-control"] == "no-cache"


@pytest.mark.parametrize("kind", FAULTS)
def test_a_fault_is_a_status_and_a_sentence(
    opened: Open, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    _, status, said = FAULTS[kind]
    answer = opened().get(f"/fault/{kind}")
    sentence = answer.json()["detail"]
    assert (answer.status_code, said in sentence, "secret" in answer.text) == (status, True, False)
    if status == 500:
        id = sentence.split("error ")[1].rstrip(".")
        (record,) = [each for each in caplog.records if id in each.getMessage()]
        assert record.levelno == logging.ERROR
        assert record.exc_info


@pytest.mark.parametrize(
    ("content", "kind", "status", "said"),
    [
        (b"{", "application/json", 400, "cannot be read as JSON"),
        (b"\xff", "application/json", 400, "cannot be read"),
        (b"[" * 100_000, "application/json", 400, "cannot be read"),
        (b'{"number": ' + b"9" * 5000 + b"}", "application/json", 400, "cannot be read"),
        (b"[1]", "application/json", 422, "number must be sent"),
        (b"null", "application/json", 422, "number must be sent"),
        (b"", "application/json", 422, "number must be sent"),
        (b'{"number": NaN}', "application/json", 422, "number must fit"),
        (b'{"number": Infinity}', "application/json", 422, "number must fit"),
        (b'{"number": "secret"}', "application/json", 422, "number must fit"),
        (b'{"number": 1}', "text/plain", 422, "number must be sent"),
        (b"\xff\xfe", "text/plain", 422, "number must be sent"),
        (b"\xff\xfe", "multipart/form-data; boundary=x", 422, "number must be sent"),
    ],
)
def test_a_body_that_does_not_fit_is_answered_with_a_sentence_that_does_not_repeat_it(
    opened: Open, content: bytes, kind: str, status: int, said: str
) -> None:
    answer = opened().post("/number", content=content, headers={"Content-Type": kind})
    sentence = answer.json()["detail"]
    assert (answer.status_code, said in sentence, "secret" in answer.text) == (status, True, False), sentence


def test_what_does_not_exist_is_answered_with_a_sentence(opened: Open) -> None:
    client = opened()
    missing, other = client.get("/nowhere"), client.put("/number")
    assert (missing.status_code, "nothing at this address" in missing.json()["detail"]) == (404, True)
    assert (other.status_code, "HTTP method" in other.json()["detail"]) == (405, True)
    assert other.headers["allow"] == "POST"


def test_a_parameter_that_is_given_twice_is_refused_but_for_the_pacs(opened: Open) -> None:
    client = opened()
    answer = client.get("/info/?image=STS_002&image=STS_008")
    assert (answer.status_code, "'image' must be given once" in answer.json()["detail"]) == (400, True)
    assert client.get("/info/?image=STS_002&tag=final").status_code == 200
    assert client.get("/proxy/x?includefield=a&includefield=b").status_code == 404  # passed on


def test_a_disk_that_fills_up_while_a_form_comes_in_is_no_fault_of_the_form(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: Any, __: bytes) -> int:
        raise OSError(errno.ENOSPC, "secret")

    client = opened()
    monkeypatch.setattr(tempfile.SpooledTemporaryFile, "write", full)
    answer = client.put("/datastore/label", files={"file": bytes(100)})
    assert (answer.status_code, "must have room" in answer.json()["detail"]) == (507, True)
