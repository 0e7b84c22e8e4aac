"""Which series is which modality, by preset or by a site's own file."""

from __future__ import annotations

from pathlib import Path

import pytest

from lib.cases.case import CaseError
from lib.cases.series_rules import PRESETS, rules_for


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
    assert PRESETS[preset].name_of(modality, description) == name


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


def test_an_unknown_preset_is_refused_with_the_known_ones() -> None:
    with pytest.raises(CaseError, match="series_rules must be one of usual, glioma_mr, pet_ct, pet_ct_mr"):
        rules_for("brats")
