"""Web pages that may use the server: its own, and those that the settings list.

A reader's browser opens many pages, and each of them can send requests to any server that the browser can
reach. A browser names the requesting page in `Origin` and `Sec-Fetch-Site`; 3D Slicer and other programs send
neither.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.datastructures import Headers

SAFE = {"GET", "HEAD", "OPTIONS"}  # HTTP methods that change nothing
_HERE = {"same-origin", "none"}  # Sec-Fetch-Site of this server's page, or of a person at the address bar


@dataclass(frozen=True)
class Origins:
    """Names of this server, and pages from elsewhere that may send requests to it.

    Attributes:
        hosts: Names by which clients reach the server, lower case, without ports.
        allowed: Origins of other pages, lower case, such as `https://viewer.example.org`.
    """

    hosts: frozenset[str]
    allowed: frozenset[str] = frozenset()

    @classmethod
    def of_this_machine(cls, hosts: Sequence[str], allowed: Sequence[str]) -> Origins:
        """The machine's own names, and the hosts and origins that the settings list."""
        own = socket.gethostname().lower()
        names = {"localhost", own, own.partition(".")[0], *(host.lower() for host in hosts)}
        return cls(frozenset(names), frozenset(allowed))

    def is_own_host(self, host: str) -> bool:
        """Whether a `Host` header names this server.

        An attacker can point a name of theirs at this machine (DNS rebinding), and a foreign page then looks
        like one of ours. An IP address cannot be pointed elsewhere.
        """
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:  # such as [::
            return False
        return name in self.hosts or _is_ip(name)

    def objection(self, method: str, headers: Headers) -> str:
        """Reason for refusing a request; empty if it may pass."""
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
        return origin.lower() in self.allowed or _host_and_port(page) == _host_and_port(host)


def _host_and_port(netloc: str) -> str:
    """Host and port without a default port; the server may run behind a proxy that adds TLS."""
    return netloc.lower().removesuffix(":80").removesuffix(":443")


def _is_ip(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
