"""Corrections of MONAI Label's login."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import Any

import jwt
import requests

from lib.server.errors import ClientError

# Public-key algorithms only: with HMAC among them, anyone who knows the public key could sign a token.
ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512"]
_REFUSED = (400, 401)  # OpenID's statuses for a wrong password or a locked user


def patch_login() -> None:
    """Check tokens with public-key algorithms, and report a realm's failures in a sentence.

    MONAI Label 0.8.5 (`monailabel.endpoints.user.auth.from_token`) names no algorithms. PyJWT, in every
    version that MONAI Label accepts, then refuses each token, and nobody can log in. A password that the
    realm refuses and a realm that does not answer both end in a 500 without a message.
    """
    from monailabel.endpoints import login
    from monailabel.endpoints.user import auth

    auth.jwt = SimpleNamespace(decode=partial(jwt.decode, algorithms=ALGORITHMS))
    auth.requests = SimpleNamespace(get=partial(_ask_realm, "GET"))
    login.requests = SimpleNamespace(post=partial(_ask_realm, "POST"))


def _ask_realm(method: str, **arguments: Any) -> requests.Response:
    """Ask the login's realm; its answer is a JSON document.

    Raises:
        ClientError: 401 if the realm refuses the password, 502 if it fails, 503 if it does not answer.
    """
    try:
        answer = requests.request(method, **arguments)
        if answer.ok:
            answer.json()
            return answer
    except requests.JSONDecodeError as err:
        raise ClientError(
            "the login's realm must answer JSON; got something else. Check its URI.", status=502
        ) from err
    except requests.RequestException as err:
        sentence = "the login's realm does not answer. Ask again; if that lasts, tell its administrator."
        raise ClientError(sentence, status=503) from err
    if method == "POST" and answer.status_code in _REFUSED:
        raise ClientError("the login's realm does not accept this name and password.", status=401)
    raise ClientError(f"the login's realm answered {answer.status_code}. Tell its administrator.", status=502)
