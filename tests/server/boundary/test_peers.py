"""How many cases one machine may keep from the others."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import copy_context
from pathlib import Path

import pytest

from lib.app import MdalCimlApp
from lib.server.boundary.peers import MAX_HELD_CASES, HeldCases, annotator_of, peer
from lib.server.errors import ClientError


def test_a_machine_holds_a_bounded_number_of_cases_under_whatever_names() -> None:
    hands, held = HeldCases(), {f"name {number}" for number in range(MAX_HELD_CASES)}
    for name in sorted(held):
        hands.take("10.0.0.7", name, lambda: held)
        hands.take("10.0.0.7", name, lambda: held)  # who asks again passes a case over
    with pytest.raises(ClientError, match="hold as many") as caught:
        hands.take("10.0.0.7", "one more", lambda: held)
    assert caught.value.status_code == 429
    hands.take("10.0.0.8", "one more", lambda: held)
    held.remove("name 3")  # labelled, or its lease ended
    hands.take("10.0.0.7", "one more", lambda: held)
    with pytest.raises(ClientError):
        hands.take("10.0.0.7", "name 3", lambda: held | {"one more"})


def test_two_machines_under_one_name_are_told_of_each_other() -> None:
    hands = HeldCases()
    assert hands.take("10.0.0.7", "user-xyz", set) == []
    assert hands.take("10.0.0.7", "user-xyz", set) == []
    (told,) = hands.take("10.0.0.8", "user-xyz", set)
    assert told.startswith("The name user-xyz is also used at 10.0.0.7.")
    assert hands.take("10.0.0.8", "ann", set) == []


def test_a_client_without_a_name_is_called_by_its_machine() -> None:
    def named(address: str) -> str:
        peer.set(address)
        return annotator_of("")

    assert [copy_context().run(named, address) for address in ("10.0.0.7", "10.0.0.8", "")] == [
        "reader at 10.0.0.7", "reader at 10.0.0.8", "anonymous"
    ]  # fmt: skip


def test_one_machine_cannot_lease_every_case(
    samples: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lib.server.boundary.peers.MAX_HELD_CASES", 1)
    app = MdalCimlApp(
        str(tmp_path), str(samples("STS_008", "STS_025", "STS_042")), {"study_labels": "ignore"}
    )

    async def ask(address: str, name: str) -> str:
        peer.set(address)
        return str(app.next_sample({"strategy": "uniform", "client_id": name})["id"])

    first = asyncio.run(ask("10.0.0.7", "a"))
    with pytest.raises(ClientError, match="hold as many"):
        asyncio.run(ask("10.0.0.7", "b"))
    second = asyncio.run(ask("10.0.0.8", "b"))
    assert len({first, second, asyncio.run(ask("10.0.0.7", "a"))}) == 3  # passed over, and another one
