"""Client machines, the names of their readers, and the limit on the cases that each machine holds."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from typing import Any

from lib.server.errors import ClientError

MAX_HELD_CASES = 32  # cases that the clients of one machine may hold at once
peer: ContextVar[str] = ContextVar("peer", default="")  # address of the requesting machine


def annotator_of(name: Any) -> str:
    """Name of the annotator, as the client gave it, or else by the machine that asks.

    Raises:
        ClientError: If it is not a printable name of at most 160 characters.
    """
    if not name:
        return f"reader at {peer.get()}" if peer.get() else "anonymous"
    if not isinstance(name, str) or not name.isprintable() or len(name) > 160:
        raise ClientError(f"client_id must be a name of at most 160 characters; got {str(name)[:40]!r}.")
    return name


class HeldCases:
    """Annotator names under which each machine holds a case.

    A client can send any number of names, and each name can hold a case. Without a limit, one machine could
    keep every case from the readers.
    """

    def __init__(self) -> None:
        """Start with no held case."""
        self._names: dict[str, set[str]] = {}
        self._changing = threading.Lock()

    def take(self, address: str, name: str, holders: Callable[[], Iterable[str]]) -> list[str]:
        """Let a client of a machine hold a case.

        Args:
            address: Address of the machine; empty if it is not known, as in a process without clients.
            name: Annotator name that the client sent.
            holders: Returns the names of all clients that hold a case; called only near the limit.

        Returns:
            A sentence if clients of other machines asked for a case under the same name.

        Raises:
            ClientError: 429 if other clients of the machine hold as many cases as they may.
        """
        if not address:
            return []
        with self._changing:
            names = self._names.setdefault(address, set())
            if name not in names and len(names) >= MAX_HELD_CASES:
                names.intersection_update(holders())
                if len(names) >= MAX_HELD_CASES:
                    raise ClientError(
                        f"the clients of one machine may hold {MAX_HELD_CASES} cases at once; those of "
                        f"{address} hold as many. Submit a label, or wait until a lease ends.",
                        status=429,
                    )
            names.add(name)
            others = sorted(other for other, used in self._names.items() if name in used and other != address)
        if not others:
            return []
        return [
            f"The name {name} is also used at {', '.join(others[:3])}. If that is not you, type a name of "
            "your own: cases are kept apart by name."
        ]
