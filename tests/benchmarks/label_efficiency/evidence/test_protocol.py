"""What a protocol may ask for."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from benchmarks.common.folders import ROOT
from benchmarks.common.rival_orders import ORDERS, WITHDRAWN
from benchmarks.label_efficiency.evidence.protocol import Protocol
from benchmarks.label_efficiency.evidence.strategies import CONTROLS
from tests.support.made_up_study import SETTINGS, protocol

PROTOCOLS = ROOT / "benchmarks" / "label_efficiency" / "evidence"


@pytest.mark.parametrize("file", sorted(PROTOCOLS.glob("*.yaml")), ids=lambda file: file.stem)
def test_every_protocol_asks_only_for_strategies_that_there_are(file: Path) -> None:
    read = Protocol.read(file)
    named = {name for arm in read.arms for name in arm.seeds}
    assert named <= ORDERS.keys() | CONTROLS.keys() | WITHDRAWN
    compared = {*read.references, *(name.split(" ")[0] for pair in read.questions for name in pair)}
    assert compared <= named
    assert read.hypothesis_budget in read.budgets
    assert min(arm.seeds["uniform"] for arm in read.arms if arm.check) >= 15
    assert min(seeds * read.splits for arm in read.arms for seeds in arm.seeds.values()) >= 3
    assert set(read.equal_foreground) <= named
    assert read.segmenter.schedule.steps == read.segmenter.steps


def test_only_a_number_of_test_patients_can_be_drawn_more_than_once() -> None:
    with pytest.raises(ValueError, match="test must be a number with more than one split"):
        protocol(test=["p01"], splits=2)


def test_an_unknown_key_of_a_protocol_is_refused_with_its_place(tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    file.write_text(yaml.safe_dump({**SETTINGS, "segmenter": {**SETTINGS["segmenter"], "step": 2}}))
    with pytest.raises(ValueError, match=r"segmenter\.step of p\.yaml must fit the protocol"):
        Protocol.read(file)
