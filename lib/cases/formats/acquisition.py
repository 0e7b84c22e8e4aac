"""What the header of a DICOM series says of how it was made, beside its description."""

from __future__ import annotations

import re
from dataclasses import dataclass

from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

TAGS = (
    "ContrastBolusAgent",
    "ContrastBolusStartTime",
    "CorrectedImage",
    "DiffusionBValue",
    "ImageType",
)
_NONE = re.compile(r"\s*(?:n|no|none|nil|0|-|without.*)?\s*", re.IGNORECASE)
_TIME = re.compile(r"\d{6}(?:\.\d+)?")


@dataclass(frozen=True)
class Acquisition:
    """How a series was made.

    Attributes:
        agent: ContrastBolusAgent; empty if none was given or the header does not say.
        after_injection: Whether the series was acquired after the agent was given; None if that is not said.
        diffusion_weighted: Whether a b-value above 0 is given.
        apparent_diffusion: Whether ImageType names a map of the apparent diffusion coefficient.
        attenuation_corrected: Whether CorrectedImage names the correction of attenuation; None if the header
            has no list of corrections.
    """

    agent: str = ""
    after_injection: bool | None = None
    diffusion_weighted: bool = False
    apparent_diffusion: bool = False
    attenuation_corrected: bool | None = None

    @classmethod
    def of(cls, header: Dataset) -> Acquisition:
        """Read a slice's header; what is malformed counts as not said."""
        agent = " ".join(_texts(header, "ContrastBolusAgent"))
        corrections = _texts(header, "CorrectedImage")
        kinds = {text.upper() for text in _texts(header, "ImageType")}
        return cls(
            agent="" if _NONE.fullmatch(agent) else agent,
            after_injection=_after_injection(header),
            diffusion_weighted=_b_value(header) > 0,
            apparent_diffusion="ADC" in kinds,
            attenuation_corrected="ATTN" in {text.upper() for text in corrections} if corrections else None,
        )


UNSAID = Acquisition()
"""A header that says nothing."""


def _texts(header: Dataset, keyword: str) -> tuple[str, ...]:
    value = header.get(keyword)
    values = value if isinstance(value, MultiValue | list | tuple) else (value,)
    return tuple(text for each in values if each is not None and (text := str(each).strip()))


def _b_value(header: Dataset) -> float:
    try:
        return float(header.get("DiffusionBValue") or 0.0)
    except (TypeError, ValueError):
        return 0.0


def _after_injection(header: Dataset) -> bool | None:
    given, acquired = (
        "".join(_texts(header, keyword)) for keyword in ("ContrastBolusStartTime", "AcquisitionTime")
    )
    if not (_TIME.fullmatch(given) and _TIME.fullmatch(acquired)):
        return None
    return float(acquired) >= float(given)
