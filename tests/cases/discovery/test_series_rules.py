"""Which series is which modality, by preset or by a site's own file."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from lib.cases.case import CaseError
from lib.cases.discovery.series_rules import RULE_PRESETS, SeriesRule, rules_for
from lib.runtime.search_cost import check_cost


@pytest.mark.parametrize(
    ("preset", "modality", "description", "name"),
    [
        ("usual", "CT", "Thorax 2.0 B30f", "CT"),
        ("usual", "CT", "Topogram 0.6", None),
        ("usual", "PT", "PET WB", "PET"),
        ("usual", "PT", "PET WB uncorrected", None),
        ("usual", "US", "anything", None),
        ("glioma_mr", "MR", "t2_tirm_tra_dark-fluid", "FLAIR"),
        ("glioma_mr", "MR", "AX T2 FLAIR", "FLAIR"),
        ("glioma_mr", "MR", "t1_mprage_sag +c", "T1ce"),
        ("glioma_mr", "MR", "t1_mprage_sag", "T1"),
        ("glioma_mr", "MR", "AX T2 TSE", "T2"),
        ("glioma_mr", "MR", "localizer T2", None),
        ("pet_ct", "MR", "t1", None),
        ("pet_ct_mr", "MR", "T1 tse", "MR_T1"),
    ],
)
def test_a_series_is_named_by_the_first_rule_that_fits(
    preset: str, modality: str, description: str, name: str | None
) -> None:
    assert RULE_PRESETS[preset].name_of(modality, description) == name


def test_a_sites_own_rules_are_read_in_order(tmp_path: Path) -> None:
    file = tmp_path / "rules.yaml"
    file.write_text(
        'rules:\n- {modality: MR, description: "dyn", name: ""}\n'
        '- {modality: MR, description: "t1", name: T1}\n'
    )
    rules = rules_for(str(file))
    assert rules.name_of("MR", "T1 dynamic") is None
    assert rules.name_of("MR", "T1 tra") == "T1"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rules: []", "must hold a list named rules with at least one rule"),
        ("rules: [{modality: MR}]", "rule 1 must have modality and name"),
        ("rules: [{modality: MR, name: T1, describe: t1}]", "rule 1 must have modality and name"),
        ("rules: [{modality: MR, name: 1}]", "rule 1: name must be text; got 1"),
        ('rules: [{modality: MR, description: "(", name: T1}]', "rule 1: description must be a regular expr"),
        ("rules: [{modality: mr, name: T1}]", "rule 1: modality must be a DICOM Modality"),
        ("rules: [{modality: MR, name: ../T1}]", "rule 1: name must be a short word"),
    ],
)
def test_a_bad_rule_is_named(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "rules.yaml"
    file.write_text(text)
    with pytest.raises(CaseError, match=message):
        rules_for(str(file))


@pytest.mark.parametrize(
    "pattern",
    [
        "(a+)+$",
        "(a|aa)+$",
        "(.*a){12}",
        "(a*)*b",
        r"(\w+\s?)*$",
        "(?=(a+)+$)",
        "(?:a{1,60}){1,60}b",
        ".*.*.*.*.*x",
        "a?" * 30 + "a" * 30,
        "(a|a)" * 30 + "b",
        "(?:){1000000}",
        "(a)?(?(1)(b+)+|c)",
        "(" * 5000,
    ],
)
def test_a_pattern_that_could_take_long_is_refused(tmp_path: Path, pattern: str) -> None:
    file = tmp_path / "rules.yaml"
    file.write_text(json.dumps({"rules": [{"modality": "MR", "description": pattern, "name": "T1"}]}))
    begin = time.process_time()
    with pytest.raises(CaseError, match="rule 1: description must be a regular expression that is quick"):
        rules_for(str(file))
    assert time.process_time() - begin < 1.0


@pytest.mark.parametrize(
    "pattern",
    ["^(?!.*loc).*t1", ".*a.*b.*c", r"t1.*(gd|ce|\+c)", "[a-z0-9_]+_t1$", r"(?:3d\s)?flair", "a*a*a*b"],
)
def test_a_pattern_that_passes_is_quick_on_whatever_a_series_is_called(pattern: str) -> None:
    check_cost(pattern)
    rule = SeriesRule("MR", pattern, "T1")
    for text in ("a" * 10_000, "ab" * 5_000, "t1gd" * 3_000, "_" * 10_000):
        begin = time.process_time()
        rule.fits("MR", text)
        assert time.process_time() - begin < 0.5


def test_every_preset_is_quick() -> None:
    for rules in RULE_PRESETS.values():
        for rule in rules.rules:
            check_cost(rule.description)


@pytest.mark.parametrize(
    "content",
    [
        b"\xff\xfe\x00\x01",
        b"\x00" * 5000,
        b"[" * 60_000,
        b"{a: " * 10_000,
        b"- a" * 40_000,
        b"rules: {modality: MR}",
        b"rules: [1, null, []]",
        b"rules: [{1: 2}]",
        b"rules: [{modality: [MR], name: {a: b}}]",
        b"? [a, b]\n: c",
        b"rules: !!python/object/apply:os.system [id]",
        b"rules: 2025-99-99",
    ],
    ids=range(12),
)
def test_a_damaged_file_of_rules_is_refused_in_a_sentence(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "rules.yaml"
    file.write_bytes(content)
    with pytest.raises(CaseError, match="must"):
        rules_for(str(file))


def test_an_unknown_preset_is_refused_with_the_known_ones() -> None:
    with pytest.raises(CaseError, match="series_rules must be one of usual, glioma_mr, pet_ct, pet_ct_mr"):
        rules_for("brats")
