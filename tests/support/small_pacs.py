"""A PACS of a few lines, for what no real one does on demand: other answers, passwords, certificates."""

from __future__ import annotations

import base64
import http.server
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

Answer = tuple[int, str, bytes]  # status, content type, body
SERIES = {
    "00080060": {"vr": "CS", "Value": ["CT"]},
    "0020000D": {"vr": "UI", "Value": ["1.2.3"]},
    "0020000E": {"vr": "UI", "Value": ["1.2.3.4"]},
    "00100020": {"vr": "LO", "Value": ["p1"]},
    "00201209": {"vr": "IS", "Value": [20]},
}


def listing(path: str) -> Answer:
    """One CT series, whatever is asked for."""
    rows = [SERIES] if "Modality=CT" in path and "offset=0" in path else []
    return 200, "application/dicom+json", json.dumps(rows).encode()


@dataclass
class SmallPacs:
    """A server, and what it was asked."""

    address: str
    logins: list[str] = field(default_factory=list)


@contextmanager
def small_pacs(answer: Callable[[str], Answer] = listing, *, login: str = "") -> Iterator[SmallPacs]:
    """Serve; with `login` (USER:PASSWORD) everything else is answered with 401."""
    pacs = SmallPacs("")

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            _, _, sent = self.headers.get("Authorization", "").partition(" ")
            pacs.logins.append(base64.b64decode(sent).decode())
            refused = login and pacs.logins[-1] != login
            status, kind, body = (401, "text/plain", b"") if refused else answer(self.path)
            self.send_response(status)
            if 300 <= status < 400:
                self.send_header("Location", self.path)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    pacs.address = f"http://127.0.0.1:{server.server_port}/dicom-web"
    try:
        yield pacs
    finally:
        server.shutdown()
        server.server_close()
