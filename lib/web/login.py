"""MONAI Label's login, where its operator switched it on."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace

import jwt

# Of a public key: with a secret's algorithms among them, anyone who knows the key could sign.
ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512"]


def mend_login() -> None:
    """Have tokens checked by the algorithms of a realm's public key.

    MONAI Label 0.8.5 (`monailabel.endpoints.user.auth.from_token`) names none; PyJWT, in each version that it
    asks for, then refuses each token, so that nobody gets in.
    """
    from monailabel.endpoints.user import auth

    auth.jwt = SimpleNamespace(decode=partial(jwt.decode, algorithms=ALGORITHMS))
