"""Rules that name the modality of a DICOM series, by Modality and SeriesDescription; presets or from YAML."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lib.cases.case import CaseError
from lib.runtime.search_cost import MAX_TEXT_LENGTH, check_cost
from lib.runtime.yaml_table import YAML_SUFFIXES, read_table

LEFT_OUT = ""  # name in a rule that leaves the series out


@dataclass(frozen=True)
class SeriesRule:
    """Rule that gives a series the name of a modality.

    Attributes:
        modality: DICOM Modality (CT, PT, MR).
        description: Regular expression, searched in the first 64 characters of SeriesDescription (the most
            that DICOM allows) without regard to case; an empty one matches every series.
        name: Name of the modality; empty leaves the series out.
    """

    modality: str
    description: str
    name: str

    def fits(self, modality: str, description: str) -> bool:
        """Whether the rule applies to a series with these headers."""
        text = description[:MAX_TEXT_LENGTH]
        return modality == self.modality and bool(re.search(self.description, text, re.IGNORECASE))


@dataclass(frozen=True)
class SeriesRules:
    """Rules in order; the first one that fits a series decides."""

    name: str
    rules: tuple[SeriesRule, ...]

    @property
    def modalities(self) -> tuple[str, ...]:
        """All DICOM Modalities in the rules."""
        return tuple(dict.fromkeys(rule.modality for rule in self.rules))

    def name_of(self, modality: str, description: str) -> str | None:
        """Modality name of a series; None if no rule fits it or the rule leaves it out."""
        rule = next((rule for rule in self.rules if rule.fits(modality, description)), None)
        return rule.name or None if rule else None


def _rules(name: str, *rows: tuple[str, str, str]) -> SeriesRules:
    return SeriesRules(name, tuple(SeriesRule(*row) for row in rows))


_LOCALISERS = (
    ("MR", r"locali[sz]er|scout|survey|3.?plane", LEFT_OUT),
    ("CT", r"scout|topogram|surview|dose.?report", LEFT_OUT),
)
_BRAIN = (
    ("MR", r"flair|dark.?fluid", "FLAIR"),
    ("MR", r"t1.*(gd|\bce\b|_ce|post|\+c|contrast|km)|t1c|t1gd", "T1ce"),
    ("MR", r"t2", "T2"),
)
_T1 = ("MR", r"t1|mprage|spgr|bravo", "T1")
_PET = ("PT", r"nac|non.?ac|uncorr", LEFT_OUT)  # no SUV without attenuation correction
RULE_PRESETS = {
    rules.name: rules
    for rules in (
        _rules(
            "usual",
            *_LOCALISERS,
            ("CT", "", "CT"),
            _PET,
            ("PT", "", "PET"),
            *_BRAIN,
            ("MR", r"adc|apparent", "ADC"),
            ("MR", r"dwi|diff|trace", "DWI"),
            _T1,
        ),
        _rules("glioma_mr", *_LOCALISERS, *_BRAIN, _T1),
        _rules("pet_ct", *_LOCALISERS, ("CT", "", "CT"), _PET, ("PT", "", "PET")),
        _rules(
            "pet_ct_mr",
            *_LOCALISERS,
            ("CT", "", "CT"),
            _PET,
            ("PT", "", "PET"),
            ("MR", "t1", "MR_T1"),
            ("MR", "t2", "MR_T2"),
        ),
    )
}


def rules_for(name: str) -> SeriesRules:
    """Rules by the name of a preset or the absolute path of a YAML file.

    Raises:
        CaseError: If there is no such preset, or the file does not hold rules.
    """
    if name in RULE_PRESETS:
        return RULE_PRESETS[name]
    if not name.endswith(YAML_SUFFIXES):
        raise CaseError(
            f"series_rules must be one of {', '.join(RULE_PRESETS)}, or the absolute path of your own in a "
            f".yaml file; got {name!r}. Set --conf series_rules."
        )
    try:
        table = read_table(Path(name), what="series_rules", fields="rules")
    except ValueError as err:
        raise CaseError(str(err)) from err
    rows = table.get("rules")
    if not isinstance(rows, list) or not rows:
        raise CaseError(f"{name} must hold a list named rules with at least one rule; got {rows!r}.")
    return SeriesRules(name, tuple(_rule(row, f"{name}: rule {n}") for n, row in enumerate(rows, start=1)))


def _rule(row: Any, where: str) -> SeriesRule:
    fields = ("modality", "description", "name")
    if not isinstance(row, dict) or not {"modality", "name"} <= row.keys() <= set(fields):
        raise CaseError(
            f"{where} must have modality and name, and may have description; got {str(row)[:80]!r}."
        )
    values: dict[str, str] = {}
    for field in fields:
        value = row.get(field)
        if value is not None and not isinstance(value, str):
            raise CaseError(f"{where}: {field} must be text; got {value!r}. Put it in quotes.")
        values[field] = value or ""
    try:
        check_cost(values["description"])
    except ValueError as err:
        raise CaseError(
            f"{where}: description must be a regular expression that is quick to seek; got "
            f"{values['description'][:80]!r}: {err}. Change it there."
        ) from err
    if not re.fullmatch(r"[A-Z]{2,16}", values["modality"]):
        raise CaseError(
            f"{where}: modality must be a DICOM Modality such as CT, PT or MR; got {values['modality']!r}."
        )
    if values["name"] and not re.fullmatch(r"\w[\w-]{0,31}", values["name"]):
        raise CaseError(
            f"{where}: name must be a short word such as T1ce, or empty to leave the series out; "
            f"got {values['name']!r}."
        )
    return SeriesRule(**values)
