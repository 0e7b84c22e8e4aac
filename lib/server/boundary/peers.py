"""Machines that ask, and how many cases each of them may keep from the others."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from contextvars import ContextVar

from lib.server.errors import ClientError

MOST = 32  # cases that the clients of one machine hold at once
peer: ContextVar[str] = ContextVar("peer", default="")  # address of the machine whose request is answered


class HeldCases:
    """Names under which each machine was given a case.

    A name costs a client nothing, and each name holds a case. Without a bound one machine could take every
    case out of the readers' hands.
    """

    def __init__(self) -> None:
        """Nobody was given anything."""
        self._names: dict[str, set[str]] = {}
        self._changing = threading.Lock()

    def take(self, address: str, name: str, holders: Callable[[], Iterable[str]]) -> None:
        """Let a client of a machine have a case.

        Args:
            address: The machine; empty where it is not known, as in a process without clients.
            name: The client's.
            holders: Tells the names of all clients that hold a case; asked only where it matters.

        Raises:
            Refusal: 429 if other clients of the machine hold as many cases as they may.
        """
        if not address:
            return
        with self._changing:
            names = self._names.setdefault(address, set())
            if name not in names and len(names) >= MOST:
                names.intersection_update(holders())
                if len(names) >= MOST:
                    raise ClientError(
                        f"the clients of one machine may hold {MOST} cases at once; those of {address} hold "
                        "as many. Submit a label, or wait until a lease ends.",
                        status=429,
                    )
            names.add(name)
