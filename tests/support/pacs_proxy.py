"""A proxy between us and a PACS, which spoils the answers that a test names."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import requests

from tests.support.orthanc import Orthanc

Send = Callable[["Faulty", bytes], None]


@dataclass
class Proxy:
    """Stands between us and a PACS, and spoils the answers that a test names.

    Attributes:
        spoil: What to send in place of an answer, by the path that was asked for; None for the answer.
        asked: Every path.
        most_at_once: Instances that the PACS was asked for at the same time.
    """

    pacs: Orthanc
    url: str = ""
    spoil: Callable[[str], Send | None] = lambda path: None
    asked: list[str] = field(default_factory=list)
    most_at_once: int = 0
    ended: threading.Event = field(default_factory=threading.Event)
    _inside: int = 0
    _count: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def counting(self, path: str) -> Iterator[None]:
        """While the PACS is asked for a path."""
        with self._count:
            self._inside += is_instance(path)
            self.most_at_once = max(self.most_at_once, self._inside)
        try:
            yield
        finally:
            with self._count:
                self._inside -= is_instance(path)

    @property
    def fetched(self) -> list[str]:
        """The instances that were asked for."""
        return [path.rpartition("/")[2] for path in self.asked if is_instance(path)]


def is_instance(path: str) -> bool:
    """Whether a path asks for one instance."""
    return "/instances/" in path


class Faulty(http.server.BaseHTTPRequestHandler):
    """Hands a request on, and the answer back, unless the proxy is to spoil it."""

    protocol_version = "HTTP/1.1"
    proxy: Proxy

    def do_GET(self) -> None:
        self.proxy.asked.append(self.path)
        try:
            accept = {"Accept": self.headers["Accept"]}
            with self.proxy.counting(self.path):
                answer = requests.get(self.proxy.pacs.address + self.path, headers=accept, timeout=60)
        except requests.ConnectionError:
            self.close_connection = True  # as the PACS did
            return
        spoilt = self.proxy.spoil(self.path)
        self.send_response(answer.status_code if spoilt is not fail else HTTPStatus.INTERNAL_SERVER_ERROR)
        self.send_header("Content-Type", answer.headers.get("Content-Type", ""))
        (spoilt or send)(self, answer.content)

    def log_message(self, *arguments: Any) -> None:
        """Nothing."""


def send(handler: Faulty, body: bytes) -> None:
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


def fail(handler: Faulty, body: bytes) -> None:
    send(handler, b"{}")


def cut(handler: Faulty, body: bytes) -> None:
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body[: len(body) // 2])
    handler.close_connection = True


def cut_in_silence(handler: Faulty, body: bytes) -> None:
    """Without a length before it, half an answer is one for HTTP."""
    handler.send_header("Connection", "close")
    handler.end_headers()
    handler.wfile.write(body[: len(body) // 2])


def stall(handler: Faulty, body: bytes) -> None:
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body[: len(body) // 2])
    handler.proxy.ended.wait(30)
    handler.close_connection = True


def without_sizes(handler: Faulty, body: bytes) -> None:
    """As a PACS lists that keeps no rows and columns."""
    rows = json.loads(body)
    for row in rows:
        for tag in ("00280010", "00280011", "00280008"):
            row.pop(tag, None)
    send(handler, json.dumps(rows).encode())


def one_row(handler: Faulty, body: bytes) -> None:
    """Some servers send no more than so many at a time, whatever they are asked for."""
    send(handler, json.dumps(json.loads(body)[:1]).encode())


@contextmanager
def listing(pages: Sequence[object]) -> Iterator[str]:
    """Serve a PACS that answers each query with the next page, whatever it holds; its address."""
    left = iter(pages)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(next(left)).encode()
            self.send_response(HTTPStatus.OK)
            self.send_header("Content-Type", "application/dicom+json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: Any) -> None:
            """Nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{listening.server_port}"
        finally:
            listening.shutdown()


@contextmanager
def proxy_of(pacs: Orthanc) -> Iterator[Proxy]:
    proxy = Proxy(pacs)
    handler = type("Handler", (Faulty,), {"proxy": proxy})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as listening:
        listening.daemon_threads = True
        proxy.url = f"http://127.0.0.1:{listening.server_port}/dicom-web"
        threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        try:
            yield proxy
        finally:
            proxy.ended.set()
            listening.shutdown()
