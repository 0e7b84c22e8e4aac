"""Rules that name the modality of a DICOM series, by Modality and SeriesDescription; presets or from YAML."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lib.cases.case import CaseError
from lib.cases.formats.acquisition import UNSAID, Acquisition
from lib.runtime.search_cost import MAX_TEXT_LENGTH, check_cost
from lib.runtime.yaml_table import YAML_SUFFIXES, read_table

LEFT_OUT = ""  # name in a rule that leaves the series out
_NAME_IT = "Name the folder T1 or T1ce, or write a rule of your own (series_rules)."


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

    def name_of(self, modality: str, description: str, made: Acquisition = UNSAID) -> str | None:
        """Modality name of a series; None if no rule fits it or the rule leaves it out.

        Args:
            modality: DICOM Modality.
            description: SeriesDescription.
            made: What the header says of how the series was made. It counts before the description, unless
                the rules are a site's own.

        Raises:
            CaseError: If header and description contradict each other.
        """
        rule = next((rule for rule in self.rules if rule.fits(modality, description)), None)
        name = rule.name if rule else LEFT_OUT
        if self.name in RULE_PRESETS:
            name = _by_header(name, modality, description, made)
        return name if name and name in {rule.name for rule in self.rules} else None


def _by_header(name: str, modality: str, description: str, made: Acquisition) -> str:
    """Name of a series by its header, or the name by its description where the header does not say."""
    if modality == "PT" and made.attenuation_corrected is not None:
        return "PET" if made.attenuation_corrected else LEFT_OUT
    if modality != "MR":
        return name
    if name and made.component in ("PHASE", "IMAGINARY"):
        raise CaseError(
            f"a {name} must be a magnitude image; its header says {made.component}. Export the magnitude, or "
            "name the folder after the modality if it is one."
        )
    if made.apparent_diffusion or made.diffusion_weighted:
        return "ADC" if made.apparent_diffusion else "DWI"
    if name in ("T2", "MR_T2") and made.gradient_echo:
        return LEFT_OUT  # a T2*
    if name == "T2" and made.suppresses_water:
        return "FLAIR"
    if name not in ("T1", "T1ce"):
        return name
    if made.agent and made.after_injection is not None:
        return "T1ce" if made.after_injection else "T1"
    said = _agent_in(description)
    if made.agent and said is False:
        raise CaseError(
            f"its header and its description must agree on the contrast agent; the header names "
            f"{made.agent!r} and no time of injection, the description is {description!r}. {_NAME_IT}"
        )
    return "T1ce" if made.agent or said else "T1"


def _agent_in(description: str) -> bool | None:
    """Whether a description says that contrast agent was given; None if it does not say.

    Raises:
        CaseError: If it says both.
    """
    text = description[:MAX_TEXT_LENGTH].lower()
    if re.search(EITHER, text):
        raise CaseError(
            f"whether a T1 was made with contrast agent must be known; {description!r} says both, and the "
            f"header does not say when the agent was given. {_NAME_IT}"
        )
    if re.search(NO_AGENT, text):
        return False
    return True if re.search(WITH_AGENT, text) else None


def _rules(name: str, *rows: tuple[str, str, str]) -> SeriesRules:
    return SeriesRules(name, tuple(SeriesRule(*row) for row in rows))


def _words(alternatives: str) -> str:
    """Pattern of any of these as whole words; `_`, digits and signs may stand beside a word."""
    return f"(?<![a-z])(?:{alternatives})(?![a-z])"


def _begun(alternatives: str) -> str:
    """Pattern of any word that begins with one of these."""
    return f"(?<![a-z])(?:{alternatives})"


def _both(first: str, second: str) -> str:
    """Pattern of two patterns in either order."""
    return f"(?:{first}).*(?:{second})|(?:{second}).*(?:{first})"


_T1_WEIGHTED = "t1|mp.?rage|spgr|bravo|vibe"
_AGENTS = "gad|kontrast|contrast|inje[ck]t|inyect|iniett|dotarem|magnevist|prohance|clariscan"
_SHORT_AGENTS = "gd|km|ce|c|mdc|pdc|inj"
_WITHOUT = "without|w/o|wo|ohne|sans|senza|sin|sem|zonder|non?"
_TREATED = (
    r"(?!.{0,2}(?:op(?![a-z])|oper|surg|treat|ther|rad|rt(?![a-z])|rx|chemo|biop|resec|implant|interv))"
)
NO_AGENT = "|".join(
    (
        _words("native?|plain"),
        rf"(?<![a-z])pre(?![a-z]){_TREATED}",
        _begun("unenh|non.?enh"),
        rf"(?<![a-z])(?:{_WITHOUT}).?(?:(?:{_SHORT_AGENTS})(?![a-z])|{_AGENTS})",
    )
)
WITH_AGENT = "|".join(
    (
        _words("gd|km|mdc|pdc|inj|ce|t1.?ce|t1c"),
        rf"(?<![a-z])post(?![a-z]){_TREATED}",
        _begun(f"{_AGENTS}|enh|t1gd|post.?(?:gd|con|km)"),
        r"\+.?(?:c|gd|km)(?![a-z])",
        r"(?<![a-z])c\+",
        r"t1w?.?\+(?![/-]|.?t2)",
    )
)
EITHER = "|".join(  # a study's title, or a series of several parts
    (
        r"(?<![a-z\d])(?:with|w|mit|avec|con|com|met)(?![a-z]).{1,5}"
        r"(?:without|w/?o|ohne|sans|senza|sin|sem|zonder)(?![a-z])",
        r"(?<![a-z])pre.{1,5}post(?![a-z])",
        r"\+.?/.?-|±",
    )
)
_T2_STAR = rf"t2.?\*|t2.?star|{_both('t2', _words('gre|ffe|hemo|medic|fl2d|me2d'))}"
_MAPS = f"{_words('maps?|mapping|molli|t[12].?rho')}|{_begun('relax')}|mp2rage.*(?:inv|t1.?im)"
_FAT_ALONE = _both("dixon", rf"{_words('fat|f')}(?!.?(?:sat|sup))")
_DIFFUSION = r"dwi|diff|trace|dti|tensor|(?<![a-z])b.?=?\d{2,4}(?!\d)"
_DERIVED = f"{_words('sub|pwi|dsc|dce|asl|rcb[vf]|cb[vf]|mip|minip')}|{_begun('subtract|perf')}"

_LOCALISERS = (
    ("MR", r"locali[sz]er|scout|survey|3.?plane", LEFT_OUT),
    ("CT", r"scout|topogram|surview|dose.?report", LEFT_OUT),
)
_NO_PLAIN_MR = (
    ("MR", _DERIVED, LEFT_OUT),
    ("MR", _T2_STAR, LEFT_OUT),  # blood, not what a T2 shows
    ("MR", f"{_MAPS}|{_FAT_ALONE}", LEFT_OUT),  # computed from images, not what a weighted one shows
)
_BRAIN = (
    ("MR", "t1c(?![a-z])|t1.?ce|t1gd", "T1ce"),
    ("MR", _both("t1", "flair"), "T1"),  # GE's T1 FLAIR
    ("MR", r"flair|dark.?fluid", "FLAIR"),
    ("MR", _T1_WEIGHTED, "T1"),
    ("MR", "t2", "T2"),
)
_DIFFUSION_AS = (("MR", "adc|apparent", "ADC"), ("MR", _DIFFUSION, "DWI"))
_NO_DIFFUSION = tuple((modality, pattern, LEFT_OUT) for modality, pattern, _ in _DIFFUSION_AS)
_NO_ATTENUATION = r"(?:un|non?.?)corr|(?:non?|not|without|w/o).?(?:ac(?![a-z])|att)"
_PET = ("PT", f"{_words('nac')}|{_NO_ATTENUATION}", LEFT_OUT)  # no SUV without attenuation correction
RULE_PRESETS = {
    rules.name: rules
    for rules in (
        _rules(
            "usual",
            *_LOCALISERS,
            ("CT", "", "CT"),
            _PET,
            ("PT", "", "PET"),
            ("MR", "swi|swan|suscept", "SWI"),
            *_DIFFUSION_AS,
            *_NO_PLAIN_MR,
            *_BRAIN,
        ),
        _rules("glioma_mr", *_LOCALISERS, *_NO_DIFFUSION, *_NO_PLAIN_MR, *_BRAIN),
        _rules("pet_ct", *_LOCALISERS, ("CT", "", "CT"), _PET, ("PT", "", "PET")),
        _rules(
            "pet_ct_mr",
            *_LOCALISERS,
            ("CT", "", "CT"),
            _PET,
            ("PT", "", "PET"),
            *_NO_DIFFUSION,
            *_NO_PLAIN_MR,
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
