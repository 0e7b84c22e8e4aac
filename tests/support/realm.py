"""An OpenID realm as MONAI Label asks one: it stands in for Keycloak, which cannot be installed here."""

from __future__ import annotations

import base64
import http.server
import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

PASSWORD = "correct horse"


@contextmanager
def realm(users: Mapping[str, list[str]]) -> Iterator[str]:
    """Serve a realm whose users have these roles and one password; its address."""
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    public = private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            here = f"http://{self.headers['Host']}"
            if self.path.endswith("openid-configuration"):
                self._answer(200, {"token_endpoint": f"{here}/token"})
            else:
                self._answer(200, {"public_key": base64.b64encode(public).decode()})

        def do_POST(self) -> None:
            form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
            name = form["username"][0]
            if name not in users or form["password"] != [PASSWORD]:
                self._answer(401, {"error": "invalid_grant"})
                return
            claims = {
                "preferred_username": name,
                "email": f"{name}@example.org",
                "name": name,
                "realm_access": {"roles": users[name]},
                "exp": int(time.time()) + 600,
            }
            token = jwt.encode(claims, private, algorithm="RS256")
            self._answer(200, {"access_token": token, "token_type": "bearer"})

        def _answer(self, status: int, document: dict[str, Any]) -> None:
            content = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *arguments: Any) -> None:
            """Nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{listening.server_port}"
        finally:
            listening.shutdown()
