"""What the header of a DICOM series says of how it was made, beside its description."""

from __future__ import annotations

import re
from dataclasses import dataclass

from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence as Items

from lib.cases.formats.contrast import component_of

TAGS = (
    "AcquisitionContrast",
    "AttenuationCorrected",
    "ContrastBolusAgent",
    "ContrastBolusAgentSequence",
    "ContrastBolusStartTime",
    "CorrectedImage",
    "DiffusionBValue",
    "EchoPulseSequence",
    "EchoTime",
    "ImageType",
    "InversionTime",
    "ScanningSequence",
)
_WATER_SUPPRESSED_MS, _T2_WEIGHTED_MS = 1400.0, 60.0  # least inversion and echo time of a FLAIR
_ADMINISTERED = "ContrastBolusAgentAdministered"  # of a frame
_NONE = re.compile(r"\s*(?:n|no|none|nil|0|-|without.*)?\s*", re.IGNORECASE)
_TIME = re.compile(r"\d{6}(?:\.\d+)?")


@dataclass(frozen=True)
class Acquisition:
    """How a series was made.

    Attributes:
        agent: Contrast agent, by name or code; empty if none was given or the header does not say.
        after_injection: Whether the series was acquired after the agent was given; None if that is not said.
        diffusion_weighted: Whether a b-value above 0 is given, or diffusion as the contrast without one.
        apparent_diffusion: Whether ImageType names a map of the apparent diffusion coefficient.
        attenuation_corrected: Whether the attenuation is corrected; None if the header does not say.
        component: MAGNITUDE, PHASE, REAL or IMAGINARY of an MR; empty if the header does not say.
        gradient_echo: Whether the header names gradient echoes alone.
        suppresses_water: Whether inversion and echo times are those of a FLAIR.
    """

    agent: str = ""
    after_injection: bool | None = None
    diffusion_weighted: bool = False
    apparent_diffusion: bool = False
    attenuation_corrected: bool | None = None
    component: str = ""
    gradient_echo: bool = False
    suppresses_water: bool = False

    @classmethod
    def of(cls, header: Dataset) -> Acquisition:
        """Read a slice's header; what is malformed counts as not said."""
        return cls(
            agent=_agent(header),
            after_injection=_after_injection(header),
            diffusion_weighted=_is_diffusion_weighted(header),
            apparent_diffusion="ADC" in _texts(header, "ImageType"),
            attenuation_corrected=_is_attenuation_corrected(header),
            component=component_of(header),
            gradient_echo=_has_gradient_echoes(header),
            suppresses_water=(
                _number(header, "InversionTime") >= _WATER_SUPPRESSED_MS
                and _number(header, "EchoTime") >= _T2_WEIGHTED_MS
            ),
        )


UNSAID = Acquisition()
"""A header that says nothing."""


def _texts(header: Dataset, keyword: str) -> tuple[str, ...]:
    value = header.get(keyword)
    values = value if isinstance(value, MultiValue | list | tuple) else (value,)
    return tuple(text.upper() for each in values if each is not None and (text := str(each).strip()))


def _agent(header: Dataset) -> str:
    """Name of the contrast agent; of an enhanced object, the meaning of its code."""
    items = header.get("ContrastBolusAgentSequence")
    coded = (item.get("CodeMeaning") for item in items) if isinstance(items, Items) else ()
    named = (str(name or "").strip() for name in (header.get("ContrastBolusAgent"), *coded))
    agent = next((name for name in named if not _NONE.fullmatch(name)), "")
    return agent or ("an agent without a name" if _texts(header, _ADMINISTERED) == ("YES",) else "")


def _is_diffusion_weighted(header: Dataset) -> bool:
    if header.get("DiffusionBValue") is None:
        return "DIFFUSION" in _texts(header, "AcquisitionContrast")
    return _number(header, "DiffusionBValue") > 0


def _has_gradient_echoes(header: Dataset) -> bool:
    kinds = set(_texts(header, "ScanningSequence")) & {"SE", "GR", "EP"}  # beside RM and IR
    return kinds == {"GR"} or _texts(header, "EchoPulseSequence") == ("GRADIENT",)


def _is_attenuation_corrected(header: Dataset) -> bool | None:
    if corrections := _texts(header, "CorrectedImage"):
        return "ATTN" in corrections
    return {"YES": True, "NO": False}.get("".join(_texts(header, "AttenuationCorrected")))


def _number(header: Dataset, keyword: str) -> float:
    """The first number of a field; 0 if there is none."""
    try:
        return float(next(iter(_texts(header, keyword)), 0.0))
    except ValueError:
        return 0.0


def _after_injection(header: Dataset) -> bool | None:
    administered, phase = _texts(header, _ADMINISTERED), _texts(header, "ContrastBolusAgentPhase")
    if administered == ("NO",) or phase == ("PRE_CONTRAST",):
        return False
    if administered == ("YES",) or phase:
        return True
    given, acquired = (
        "".join(_texts(header, keyword)) for keyword in ("ContrastBolusStartTime", "AcquisitionTime")
    )
    if not (_TIME.fullmatch(given) and _TIME.fullmatch(acquired)):
        return None
    return float(acquired) >= float(given)
