"""Which web pages may use the server."""

from __future__ import annotations

import pytest
from starlette.datastructures import Headers

from lib.server.boundary.origins import Origins

ORIGINS = Origins(frozenset({"localhost", "labels.example.org"}), frozenset({"https://viewer.example.org"}))
HERE = "192.168.1.5:8000"


@pytest.mark.parametrize(
    "host",
    ["localhost:8000", "LABELS.example.org", "labels.example.org:443", "127.0.0.1:8000", "[::1]:8000", HERE],
)
def test_the_server_answers_under_its_names_and_under_every_address(host: str) -> None:
    assert ORIGINS.objection("POST", Headers({"host": host})) == ""


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "labels.example.org.evil.example",
        "127.0.0.1.evil.example",
        "",
        "[::",
        "a b",
        "localhost.",
    ],
)
def test_a_name_that_anybody_can_point_here_is_refused(host: str) -> None:
    for method in ("GET", "POST"):
        assert "a name that it knows" in ORIGINS.objection(method, Headers({"host": host}))


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "WIBBLE"])
@pytest.mark.parametrize(
    ("host", "origin", "allowed"),
    [
        (HERE, None, True),  # 3D Slicer, a script
        (HERE, f"http://{HERE}", True),
        ("labels.example.org", "https://labels.example.org", True),  # behind another server's TLS
        ("labels.example.org", "https://labels.example.org:443", True),
        (HERE, "https://viewer.example.org", True),
        (HERE, "https://VIEWER.example.org", True),
        (HERE, "http://viewer.example.org", False),
        (HERE, "https://viewer.example.org:8443", False),
        (HERE, "https://viewer.example.org.evil.example", False),
        (HERE, "http://192.168.1.5", False),
        (HERE, "http://192.168.1.5:8001", False),
        (HERE, "null", False),
        (HERE, "", False),
        (HERE, "file://", False),
        (HERE, HERE, False),
    ],
)
def test_only_own_and_listed_pages_change_anything(
    method: str, host: str, origin: str | None, allowed: bool
) -> None:
    headers = {"host": host} | ({} if origin is None else {"origin": origin})
    assert (ORIGINS.objection(method, Headers(headers)) == "") is allowed


def test_one_foreign_origin_among_several_is_enough() -> None:
    raw = [
        (b"host", HERE.encode()),
        (b"origin", f"http://{HERE}".encode()),
        (b"origin", b"http://evil.example"),
    ]
    assert "evil.example" in ORIGINS.objection("POST", Headers(raw=raw))


@pytest.mark.parametrize(
    ("method", "site", "mode", "dest", "allowed"),
    [
        ("GET", "same-origin", "cors", "empty", True),
        ("GET", "none", "navigate", "document", True),  # typed by a person
        ("GET", "cross-site", "navigate", "document", True),  # a link that a person followed
        ("GET", "cross-site", "no-cors", "image", False),
        ("GET", "same-site", "no-cors", "script", False),
        ("GET", "cross-site", "navigate", "iframe", False),
        ("POST", "cross-site", "navigate", "document", False),
        ("POST", "same-site", "no-cors", "empty", False),
    ],
)
def test_what_the_browser_says_of_the_page_counts_too(
    method: str, site: str, mode: str, dest: str, allowed: bool
) -> None:
    headers = {"host": HERE, "sec-fetch-site": site, "sec-fetch-mode": mode, "sec-fetch-dest": dest}
    assert (ORIGINS.objection(method, Headers(headers)) == "") is allowed


def test_a_listed_page_reads_from_elsewhere() -> None:
    headers = {"host": HERE, "origin": "https://viewer.example.org", "sec-fetch-site": "cross-site"}
    assert ORIGINS.objection("GET", Headers(headers)) == ""


def test_the_machines_own_name_and_listed_ones_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "Reading-Room.hospital.example")
    origins = Origins.of_this_machine(["Labels.Example.org"], ["https://viewer.example.org"])
    for name in ("localhost", "reading-room.hospital.example", "reading-room", "labels.example.org"):
        assert origins.is_own_host(f"{name}:8000")
    assert not origins.is_own_host("other.hospital.example")
