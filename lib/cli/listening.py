"""Address that a server listens on: checked before anything is started, and told as clients open it."""

from __future__ import annotations

import errno
import ipaddress
import socket

from lib.runtime.errors import UserError

_ADVICE = {
    errno.EADDRINUSE: "another program listens there. End it, or choose another --port.",
    errno.EACCES: "this user may not listen there, as below port 1024. Choose another --port.",
    errno.EADDRNOTAVAIL: "this machine does not have that address. Choose another --host.",
    errno.EAFNOSUPPORT: "this machine does not speak that kind of address. Choose another --host.",
}
_EVERY = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # a client opens one address of those that it stands for


def address_of(host: str, port: int) -> str:
    """Address at which a client on this machine reaches the server; IPv6 stands in brackets."""
    name = _EVERY.get(host, host)
    return f"http://{f'[{name}]' if ':' in name else name}:{port}"


def check_listening(host: str, port: int) -> None:
    """Check that a server can listen on a host and port.

    Raises:
        UserError: If the host is no address of this machine, or the port cannot be used.
    """
    if host.startswith("["):
        raise UserError(f"--host must be an address without brackets; got {host[:80]!r}. Leave them out.")
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as err:
        raise UserError(
            f"--host must be an address or a name of this machine; got {host[:80]!r}. Try 127.0.0.1, ::1, or "
            "0.0.0.0 for every address."
        ) from err
    family, *_, place = found[0]
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(place)
        except OSError as err:
            advice = _ADVICE.get(err.errno or 0, f"{err.strerror}. Choose another --host or --port.")
            raise UserError(f"{_shown(host)}:{port} must be free to listen on; {advice}") from err


def _shown(host: str) -> str:
    try:
        return f"[{host}]" if ipaddress.ip_address(host).version == 6 else host
    except ValueError:
        return host
