"""Which web pages may use the server: its own, and those that the site lists.

A reader's browser opens many pages, and each of them can send requests to a server that the browser reaches.
A browser says in `Origin` and `Sec-Fetch-Site` which page asks; 3D Slicer and other programs send neither.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.datastructures import Headers

SAFE = {"GET", "HEAD", "OPTIONS"}  # methods that change nothing
_HERE = {"same-origin", "none"}  # of Sec-Fetch-Site: this server's page, or a person at the address bar


@dataclass(frozen=True)
class Origins:
    """Names of this server, and pages from elsewhere that may ask it.

    Attributes:
        hosts: Lower-case names by which clients reach the server, without ports.
        allowed: Lower-case origins of other pages, such as `https://viewer.example.org`.
    """

    hosts: frozenset[str]
    allowed: frozenset[str] = frozenset()

    @classmethod
    def of_this_machine(cls, hosts: Sequence[str], allowed: Sequence[str]) -> Origins:
        """The machine's own names and those that the site lists."""
        own = socket.gethostname().lower()
        names = {"localhost", own, own.partition(".")[0], *(host.lower() for host in hosts)}
        return cls(frozenset(names), frozenset(allowed))

    def is_own_host(self, host: str) -> bool:
        """Whether a `Host` header names this server.

        A name that anybody can point at this machine (DNS rebinding) makes a foreign page look like an own
        one. An IP address cannot be pointed elsewhere.
        """
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:  # such as [::
            return False
        return name in self.hosts or _is_ip(name)

    def objection(self, method: str, headers: Headers) -> str:
        """Why a request is refused; empty where it is not."""
        host = headers.get("host", "")
        if not self.is_own_host(host):
            return (
                f"the server must be asked by a name that it knows; got {host[:80]!r}. "
                "Set --conf allowed_hosts."
            )
        origins = headers.getlist("origin")
        foreign = [origin for origin in origins if not self._may_ask(origin, host)]
        if foreign and method not in SAFE:
            return (
                f"a page of {foreign[0][:80]!r} may not use this server. If it should, "
                "list it in --conf allowed_origins."
            )
        if (origins and not foreign) or headers.get("sec-fetch-site", "none") in _HERE:
            return ""
        opened = headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"
        if method == "GET" and opened:  # a link that a person followed
            return ""
        return (
            "a page from elsewhere may not use this server. If it should, list it in --conf allowed_origins."
        )

    def _may_ask(self, origin: str, host: str) -> bool:
        page = origin.lower().partition("://")[2]
        return origin.lower() in self.allowed or _place(page) == _place(host)


def _place(netloc: str) -> str:
    """Host and port without a port that goes without saying; the server may stand behind another's TLS."""
    return netloc.lower().removesuffix(":80").removesuffix(":443")


def _is_ip(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
