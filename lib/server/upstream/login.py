"""MONAI Label's login, where its operator switched it on."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import Any

import jwt
import requests

from lib.server.errors import ClientError

# Of a public key: with a secret's algorithms among them, anyone who knows the key could sign.
ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512"]
_REFUSED = (400, 401)  # what OpenID has for a wrong password, a locked user


def patch_login() -> None:
    """Have tokens checked by the algorithms of a realm's public key, and its failures told in a sentence.

    MONAI Label 0.8.5 (`monailabel.endpoints.user.auth.from_token`) names no algorithms; PyJWT, in each
    version that it asks for, then refuses each token, so that nobody gets in. A password that the realm
    refuses, and a realm that does not answer, are a 500 without a word there.
    """
    from monailabel.endpoints import login
    from monailabel.endpoints.user import auth

    auth.jwt = SimpleNamespace(decode=partial(jwt.decode, algorithms=ALGORITHMS))
    auth.requests = SimpleNamespace(get=partial(_asked, "GET"))
    login.requests = SimpleNamespace(post=partial(_asked, "POST"))


def _asked(method: str, **arguments: Any) -> requests.Response:
    """The realm's answer, a JSON document.

    Raises:
        Refusal: 401 if it does not take the password, 502 if it fails, 503 if it does not answer.
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
        raise ClientError("the login's realm does not take this name and password.", status=401)
    raise ClientError(f"the login's realm answered {answer.status_code}. Tell its administrator.", status=502)
