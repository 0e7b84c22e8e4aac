"""Several annotators, each a process of its own, at live servers."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import requests

from benchmarks.server.annotators import (
    annotate,
    held_twice,
    labelled_twice,
    ours,
    ours_on_postgresql,
    write_label,
)
from lib.plan.leases import MAX_PASSED_OVER
from tests.support.images import write_image
from tests.support.postgresql import skip_without_postgresql
from tests.support.server import serving

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


def ask(address: str, annotator: str) -> dict[str, Any]:
    answer = requests.post(f"{address}/activelearning/uniform", json={"client_id": annotator}, timeout=60)
    answer.raise_for_status()
    return dict(answer.json())


@pytest.mark.parametrize("servers", ["one on SQLite", "two on one PostgreSQL"])
def test_annotators_at_once_work_through_the_pool_and_never_hold_the_same_case(
    servers: str, tmp_path: Path
) -> None:
    cases, clients, calls = 60, 4, 30
    if servers.startswith("two"):
        skip_without_postgresql()
    start = ours if servers.startswith("one") else ours_on_postgresql
    with start(tmp_path, cases) as (addresses, strategy):
        assert len(addresses) == (1 if servers.startswith("one") else 2)
        holds = annotate(addresses, strategy, write_label(tmp_path), clients, calls)
        assert len(holds) == clients * calls
        assert not any(hold.failed for hold in holds)
        assert held_twice(holds) == labelled_twice(holds) == 0
        assert len({hold.annotator for hold in holds if hold.labelled}) == clients
        offered = {hold.case_id for hold in holds if hold.case_id}
        left = offered - {hold.case_id for hold in holds if hold.labelled}
        assert len(offered) == cases
        assert len(left) <= clients * MAX_PASSED_OVER  # held for who passed them over
        for address in addresses:
            assert ask(address, "a last one") == {}


def test_a_case_comes_back_when_it_is_passed_over_or_its_lease_ends_and_the_budget_holds(
    tmp_path: Path,
) -> None:
    studies = tmp_path / "studies"
    for number in range(6):
        for place, modality in enumerate(("CT", "PET")):
            write_image(studies / f"p{number}" / f"{modality}.nii.gz", seed=2 * number + place)
    seconds = 3.0
    conf = {"lease_minutes": seconds / 60.0, "budget": "50%"}
    with serving(studies, conf=conf, environment={"MONAI_LABEL_AUTO_UPDATE_SCORING": "false"}) as address:
        first = ask(address, "ann")["id"]
        second = ask(address, "ann")["id"]
        third = ask(address, "bob")["id"]  # ann may be two people: what was passed over stays held
        fourth = ask(address, "cy")
        assert len({first, second, third, fourth["id"]}) == 4
        assert fourth["mdal"]["budget"] == {"cases": 3, "labelled_or_leased": 3, "of": 6}
        assert ask(address, "dan") == {}
        time.sleep(seconds)
        assert ask(address, "dan")["id"] == first
