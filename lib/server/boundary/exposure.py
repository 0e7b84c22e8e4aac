"""Endpoints of MONAI Label that are closed, and endpoints that only an administrator may use.

While the login is off, MONAI Label 0.8.5 treats everybody as an administrator. Here, only a client on the
server's own machine is then treated as one.
"""

from __future__ import annotations

import ipaddress
import logging
import os
import re
import sys
from dataclasses import dataclass

from fastapi import HTTPException
from starlette.requests import Request

from lib.runtime.errors import UserError

HOST = "MDAL_CIML_HOST"  # environment variable with the address that `main.py serve` listens on

_NO_SESSIONS = (
    "this server keeps no images that a client sends: a case is several volumes, and a session holds one. "
    "Put the case into the studies and ask for it by its id."
)
_NO_RELOAD = "the app cannot be reloaded while it serves. Restart the server."
_NO_UPLOAD = (
    "clients cannot upload models. Train here, copy model/versions, or set --conf model_upload=true "
    "for administrators."
)
_NO_REMOVAL = "clients cannot remove models. Choose another version on the page, under Model."


@dataclass(frozen=True)
class Endpoints:
    """A group of endpoints, and the reason why they are closed.

    Attributes:
        methods: HTTP methods; empty for all.
        path: Regular expression for the whole path.
        sentence: Reason for closing them, as clients read it; empty where administrators may use them.
    """

    methods: frozenset[str]
    path: re.Pattern[str]
    sentence: str = ""

    def include(self, method: str, path: str) -> bool:
        """Whether a request goes to one of the endpoints."""
        return (not self.methods or method in self.methods) and bool(self.path.fullmatch(path))


def _endpoints(methods: str, path: str, sentence: str = "") -> Endpoints:
    return Endpoints(frozenset(methods.split()), re.compile(path), sentence)


ADMINISTRATION = (
    _endpoints("", r"/logs(/.*)?"),
    _endpoints("", r"/model/.*"),
    _endpoints("POST DELETE", r"/batch/.*"),
)


def closed_endpoints(*, model_upload: bool) -> tuple[Endpoints, ...]:
    """Endpoints that nobody may use: no supported client needs them, or they are not safe."""
    upload = () if model_upload else (_endpoints("PUT", r"/model/.*", _NO_UPLOAD),)
    return (
        _endpoints("", r"/session(/.*)?", _NO_SESSIONS),
        _endpoints("", r"/reload/?", _NO_RELOAD),
        _endpoints("DELETE", r"/model/.*", _NO_REMOVAL),
        *upload,
    )


async def administrator(request: Request) -> None:
    """Let only MONAI Label's administrators pass where the login is on; everybody where it is off.

    Raises:
        HTTPException: 401 without a valid token, 403 for anybody else.
    """
    from monailabel.config import settings  # exists in a server process only
    from monailabel.endpoints.user.auth import RBAC, get_current_user, oauth2_scheme

    if settings.MONAI_LABEL_AUTH_ENABLE:
        user = await get_current_user(await oauth2_scheme(request))
        await RBAC(settings.MONAI_LABEL_AUTH_ROLE_ADMIN)(user)


async def administrator_or_this_machine(request: Request) -> None:
    """Let only administrators pass; where the login is off, only clients on the server's own machine.

    Raises:
        HTTPException: 401 without a valid token, 403 for anybody else.
    """
    await administrator(request)
    client = request.client.host if request.client else ""
    if not is_login_on() and not is_this_machine(client):
        raise HTTPException(
            403,
            "while the login is off, only the server's own machine may ask for this. Switch the login "
            "on (MONAI_LABEL_AUTH_ENABLE=true), or ask from there.",
        )


def is_login_on() -> bool:
    """Whether MONAI Label's login is on."""
    from monailabel.config import settings  # takes seconds to import

    return bool(settings.MONAI_LABEL_AUTH_ENABLE)


def is_this_machine(name: str) -> bool:
    """Whether an address can be reached only from its own machine."""
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return name == "localhost"
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)


def warning_of_open_door(host: str, *, require_login: bool) -> str:
    """Warning for a server that other machines reach without a login; empty if it does not apply.

    Raises:
        UserError: If the setting `require_login` forbids such a server.
    """
    if is_this_machine(host) or is_login_on():
        return ""
    if require_login:
        raise UserError(
            f"the login must be on where other machines reach the server (require_login); it is off, and the "
            f"server would listen on {host}. Set MONAI_LABEL_AUTH_ENABLE=true and "
            "MONAI_LABEL_AUTH_REALM_URI, or listen on 127.0.0.1."
        )
    return (
        f"Everybody who reaches {host} can see the images and change the labels: the login is off. "
        "See docs/pacs.md, or set --conf require_login=true."
    )


def listening_host() -> str:
    """Address that this process listens on, from its command line; 127.0.0.1 if none is given."""
    if host := os.environ.get(HOST):
        return host
    if "start_server" not in sys.argv:
        return "127.0.0.1"
    from monailabel.main import Main

    known, _ = Main(loglevel=logging.root.level).args_parser().parse_known_args(sys.argv[1:])
    return str(known.host)
