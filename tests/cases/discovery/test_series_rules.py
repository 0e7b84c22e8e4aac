"""Which series is which modality, by preset or by a site's own file."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from pydicom.dataset import Dataset

from lib.cases.case import CaseError
from lib.cases.discovery.series_rules import (
    EITHER,
    NO_AGENT,
    RULE_PRESETS,
    WITH_AGENT,
    SeriesRule,
    rules_for,
)
from lib.cases.formats.acquisition import UNSAID, Acquisition
from lib.runtime.search_cost import check_cost

MR_SERIES = {
    "T1": (
        "Ax T1 FLAIR", "T1 without contrast", "T1 PRE GD", "T1 W/O CONTRAST", "T1 wo contrast",
        "t1 nativ", "T1 ohne KM", "t1_mprage_sag", "T1 C SPINE", "t1 cor", "T1 noncontrast",
        "T1 non-contrast", "Ax T1 no gd", "posterior fossa T1", "AX T1 SE PRE", "PRE T1",
        "3D T1 MPRAGE unenhanced", "SAG T1 TSE", "T1W_TSE_tra", "sT1W_3D_TFE", "T1 sans gado",
        "T1 sin contraste", "T1 senza mdc", "T1 sem contraste", "T1 zonder contrast", "T1 post-op",
        "T1 AX POST SURGERY", "T1 post RT", "T1 PRE-OP", "T1 non injecté", "T1 DIXON W",
        "T1 dixon fat sat", "T1W SE WO", "MP2RAGE UNI-DEN", "T1 POST TREATMENT",
    ),
    "T1ce": (
        "T1 FLAIR POST", "POST AX T1", "+C AX T1", "Ax T1 C+", "T1 C+", "AX T1+C", "MPRAGE POST",
        "BRAVO +C", "T1 MIT KM", "KM T1 tra", "t1_mprage_sag +c", "t1_mprage_post", "T1ce", "T1_CE",
        "T1c", "T1 post gad", "T1 POSTCONTRAST", "AX T1 GADOLINIUM", "SAG 3D SPACE T1 +GD",
        "AX T1 SE POST", "T1 enhanced", "ENH T1", "vibe_fs_tra_post", "eT1W_SE_post",
        "WIP T1W_3D_TFE_gd", "T1-weighted, contrast enhanced", "T1 avec gado", "T1 injecté",
        "T1 con contraste", "T1 con mdc", "T1 com contraste", "T1 met contrast", "T1+", "T1W +",
        "T1 POST POST-OP", "T1 PRE-OP +C", "CONTRAST T1 PRE SURGERY", "T1 post-op KM", "T1 mit KM",
    ),
    "FLAIR": (
        "AX T2 FLAIR", "FLAIR POST GD", "t2_tirm_tra_dark-fluid", "t2_space_dark-fluid_sag_p2_iso",
        "T2W_FLAIR_SPIR",
    ),
    None: (
        "T2*", "T2* GRE", "Ax T2 star", "localizer T2", "t1_mprage_sub", "PERFUSION T2", "T2W_FFE",
        "t2_fl2d_tra_hemo", "T1 MAP", "T2 map", "T1rho", "MOLLI T1", "T1 relaxometry", "mp2rage_sag_INV2",
        "mp2rage_sag_T1_Images", "T1 DIXON F", "t1 vibe dixon fat",
    ),
    "DWI": (
        "T2 DWI", "ep2d_diff_3scan_trace_p2", "AX DWI B1000", "b=1000",
    ),
    "ADC": (
        "ep2d_diff_ADC", "ADC (10^-6 mm/s)",
    ),
    "T2": (
        "AX T2 TSE", "T2 BLADE", "T2 POST", "T2W_TSE",
    ),
    "SWI": (
        "SWI",
    ),
}  # fmt: skip
PET_SERIES = {
    "PET": (
        "PET WB", "PET NACHVERARBEITUNG", "TrueX+TOF (AC)", "PET AC", "nacmachine PET",
        "FUNACON01 PET AC",
    ),
    None: (
        "PET WB uncorrected", "PET NAC", "WB_NAC", "FDG NonAC", "PET non-AC",
        "PET Not Attenuation Corrected", "PET NO AC", "PET_UNCORR", "PET NON CORR", "WB no attenuation",
    ),
}  # fmt: skip


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


@pytest.mark.parametrize(
    ("description", "name"), [(each, name) for name, several in MR_SERIES.items() for each in several]
)
def test_an_mr_series_is_named_by_what_its_words_say_in_any_order(description: str, name: str | None) -> None:
    assert RULE_PRESETS["usual"].name_of("MR", description) == name
    assert RULE_PRESETS["usual"].name_of("MR", description.lower()) == name
    known = name if name not in ("ADC", "DWI", "SWI") else None
    assert RULE_PRESETS["glioma_mr"].name_of("MR", description) == known


@pytest.mark.parametrize(
    ("description", "name"), [(each, name) for name, several in PET_SERIES.items() for each in several]
)
def test_a_pet_is_left_out_only_if_it_says_that_attenuation_was_not_corrected(
    description: str, name: str | None
) -> None:
    assert RULE_PRESETS["usual"].name_of("PT", description) == name


@pytest.mark.parametrize(
    ("description", "made", "name"),
    [
        ("AX T1", Acquisition(agent="Dotarem"), "T1ce"),
        ("AX T1", Acquisition(agent="Dotarem", after_injection=True), "T1ce"),
        ("AX T1 POST", Acquisition(agent="Dotarem", after_injection=False), "T1"),
        ("AX T1 PRE", Acquisition(agent="Dotarem", after_injection=True), "T1ce"),
        ("AX T1 POST", UNSAID, "T1ce"),
        ("AX T2", Acquisition(agent="Dotarem"), "T2"),
        ("AX T2", Acquisition(diffusion_weighted=True), "DWI"),
        ("AX T2", Acquisition(gradient_echo=True), None),
        ("AX T1", Acquisition(gradient_echo=True), "T1"),
        ("t2_tirm_tra", Acquisition(suppresses_water=True), "FLAIR"),
        ("T1 PRE AND POST GD", Acquisition(agent="Dotarem", after_injection=True), "T1ce"),
        ("AX T2 DWI", Acquisition(apparent_diffusion=True, diffusion_weighted=True), "ADC"),
    ],
)
def test_what_the_header_says_counts_before_the_description(
    description: str, made: Acquisition, name: str
) -> None:
    assert RULE_PRESETS["usual"].name_of("MR", description, made) == name


@pytest.mark.parametrize(
    "description",
    [
        "T1 with and without contrast",
        "MPRAGE W/WO",
        "T1 w & w/o",
        "T1 pre and post",
        "T1 +/- C",
        "T1 mit und ohne KM",
    ],
)
def test_a_t1_that_says_both_of_its_contrast_agent_is_refused(description: str) -> None:
    with pytest.raises(
        CaseError, match=r"whether a T1 was made with contrast agent must be known; .* says both"
    ):
        RULE_PRESETS["usual"].name_of("MR", description)


def test_the_header_of_a_series_tells_its_echoes_and_its_inversion() -> None:
    header = Dataset()
    header.ScanningSequence, header.InversionTime, header.EchoTime = ["IR", "SE"], "2500", "120"
    assert Acquisition.of(header) == Acquisition(suppresses_water=True)
    header.InversionTime = "160"  # a STIR, which suppresses fat
    assert Acquisition.of(header) == UNSAID
    header.ScanningSequence, header.InversionTime = "GR", None
    assert Acquisition.of(header) == Acquisition(gradient_echo=True)
    header.ScanningSequence = ["SE", "GR"]  # a GRASE
    assert Acquisition.of(header) == UNSAID


def test_a_pet_whose_header_lists_its_corrections_is_judged_by_them() -> None:
    rules = RULE_PRESETS["usual"]
    assert rules.name_of("PT", "WB NAC", Acquisition(attenuation_corrected=True)) == "PET"
    assert rules.name_of("PT", "WB", Acquisition(attenuation_corrected=False)) is None


def test_a_header_that_contradicts_its_description_is_refused() -> None:
    with pytest.raises(
        CaseError, match=r"names 'Dotarem' and no time of injection.*'T1 PRE'.*Name the folder"
    ):
        RULE_PRESETS["usual"].name_of("MR", "T1 PRE", Acquisition(agent="Dotarem"))


def test_a_name_that_the_rules_do_not_have_leaves_a_series_out() -> None:
    assert RULE_PRESETS["glioma_mr"].name_of("MR", "AX T2", Acquisition(diffusion_weighted=True)) is None


def test_a_sites_own_rules_alone_decide_what_they_name(tmp_path: Path) -> None:
    file = tmp_path / "rules.yaml"
    file.write_text('rules:\n- {modality: MR, description: "t1", name: T1}\n')
    assert rules_for(str(file)).name_of("MR", "T1", Acquisition(agent="Dotarem")) == "T1"


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
    for pattern in (EITHER, NO_AGENT, WITH_AGENT):
        check_cost(pattern)


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
