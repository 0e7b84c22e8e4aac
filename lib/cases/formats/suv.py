"""Factor from the values of a PET series to SUV by body weight, or a sentence why there is none.

Source: the pseudo-code of the QIBA FDG-PET profile for the reference time of the decay correction.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items

from lib.cases.case import CaseError

TAGS: tuple[str | int, ...] = (
    "Units", "SUVType", "DecayCorrection", "PatientWeight", "RadiopharmaceuticalInformationSequence",
    "SeriesDate", "SeriesTime", "AcquisitionDate", "AcquisitionTime", "DecayCorrectionDateTime",
    0x00090010, 0x0009100D, 0x70530010, 0x70531000, 0x70531009,
)  # fmt: skip
_GE_SCAN_START = ("GEMS_PETD_01", 0x0009, 0x0D)
_PHILIPS_SUV = ("Philips PET Private Group", 0x7053, 0x00)
_PHILIPS_ACTIVITY = ("Philips PET Private Group", 0x7053, 0x09)
_WEIGHTS_KG = (0.01, 600.0)  # a mouse and the heaviest patient
_DOSES_BQ = (1e5, 1e12)  # a mouse's tracer and a therapy; 370 MBq given in MBq is 370
_HALF_LIVES_S = (60.0, 3e7)  # Rb-82 has 76 s, Ge-68 271 days
_SAME_DAY_S = 6 * 3600.0  # of a tracer with a longer half-life the day of the injection must be known
_MOST_HALF_LIVES = 10.0  # a scan so late would show a thousandth of the dose
_HALF_A_DAY = timedelta(hours=12)


def suv_factor(headers: Sequence[Dataset], name: str) -> float:
    """Factor from the decoded values of a series to SUV by body weight in g/ml; 1 for other modalities.

    SUV = activity [Bq/ml] x weight [g] / injected dose [Bq], decayed from the injection to the time to which
    the scanner corrected the images (DecayCorrection START), or not at all (ADMIN).

    Args:
        headers: Headers of all slices of the series.
        name: Name of the series in errors.

    Raises:
        CaseError: If the values are no SUV by body weight and no activity, or the header lacks, or
            contradicts, what the formula needs.
    """
    first = headers[0]
    if first.get("Modality") != "PT":
        return 1.0
    return _Series(headers, name).factor()


class _Series:
    """A PET series whose unit is sought."""

    def __init__(self, headers: Sequence[Dataset], name: str) -> None:
        self.headers, self.first, self.name = headers, headers[0], name

    def factor(self) -> float:
        units = str(self.first.get("Units") or "")
        if units == "GML":
            kind = str(self.first.get("SUVType") or "BW")
            self.require(kind == "BW", f"be SUV by body weight; its SUVType is {kind!r}")
            return 1.0
        if units == "BQML":
            return self.by_weight_and_dose()
        if units == "CNTS" and (suv := self.private(_PHILIPS_SUV)):
            return suv
        if units == "CNTS" and (activity := self.private(_PHILIPS_ACTIVITY)):
            return activity * self.by_weight_and_dose()
        raise self.refused(
            f"be in BQML, in GML or in counts with the scanner's own factor; its Units are {units!r}"
        )

    def by_weight_and_dose(self) -> float:
        weight = self.number(self.first, "PatientWeight", _WEIGHTS_KG, "kg")
        tracers = self.first.get("RadiopharmaceuticalInformationSequence")
        count = len(tracers) if isinstance(tracers, Items | list) else 0
        self.require(count == 1, f"name one radiopharmaceutical; it names {count}")
        tracer: Dataset = tracers[0]
        dose = self.number(tracer, "RadionuclideTotalDose", _DOSES_BQ, "Bq")
        correction = str(self.first.get("DecayCorrection") or "")
        self.require(
            correction in ("START", "ADMIN"),
            f"be corrected for decay to the start of the scan or to the injection; its DecayCorrection is "
            f"{correction!r}",
        )
        if correction == "START":
            half_life = self.number(tracer, "RadionuclideHalfLife", _HALF_LIVES_S, "s")
            dose *= 0.5 ** (self.delay_s(tracer, half_life) / half_life)
        return weight * 1000.0 / dose

    def delay_s(self, tracer: Dataset, half_life: float) -> float:
        """Seconds from the injection to the start of the scan."""
        scan = self.scan_start()
        given = tracer.get("RadiopharmaceuticalStartDateTime")
        if given:
            injection = self.moment(str(given), "RadiopharmaceuticalStartDateTime")
        else:
            self.require(
                half_life <= _SAME_DAY_S,
                f"give RadiopharmaceuticalStartDateTime, as its tracer has a half-life of "
                f"{half_life / 3600:.0f} hours and may have been injected days before; it gives no date",
            )
            time = str(tracer.get("RadiopharmaceuticalStartTime") or "")
            injection = self.moment(f"{scan:%Y%m%d}{time}", "RadiopharmaceuticalStartTime")
            if injection - scan > _HALF_A_DAY:
                injection -= timedelta(days=1)  # injected before midnight, scanned after it
        delay = (scan - injection).total_seconds()
        self.require(
            delay >= 0,
            f"be scanned after the injection; the scan began at {scan}, the injection is noted at "
            f"{injection}",
        )
        self.require(
            delay <= _MOST_HALF_LIVES * half_life,
            f"be scanned within {_MOST_HALF_LIVES:.0f} half-lives; {delay / 3600:.1f} hours lie between the "
            f"injection ({injection}) and the scan ({scan})",
        )
        return delay

    def scan_start(self) -> datetime:
        """Time to which the scanner corrected the decay.

        DecayCorrectionDateTime, which enhanced PET gives; else SeriesTime, unless the series was made after
        the scan, as by a reconstruction: then GE's own time, or the earliest acquisition.
        """
        if corrected_to := self.first.get("DecayCorrectionDateTime"):
            return self.moment(str(corrected_to), "DecayCorrectionDateTime")
        timed = [header for header in self.headers if header.get("AcquisitionTime")]
        self.require(
            len(timed) > 0, "give AcquisitionTime, as SeriesTime may be that of a later reconstruction"
        )
        acquired = min(self.joined(header, "Acquisition") for header in timed)
        if self.first.get("SeriesTime") and (made := self.joined(self.first, "Series")) <= acquired:
            return made
        private = self.private_text(_GE_SCAN_START)
        return self.moment(private, "GE's scan start") if private else acquired

    def joined(self, header: Dataset, what: str) -> datetime:
        date = header.get(f"{what}Date") or self.first.get("SeriesDate") or "20000101"
        return self.moment(f"{date}{header.get(f'{what}Time')}", f"{what}Time")

    def moment(self, text: str, keyword: str) -> datetime:
        """Date and time of YYYYMMDDHHMMSS, with or without a fraction and an offset."""
        whole = text.strip().split("+")[0].split("-")[0].split(".")[0]
        self.require(len(whole) >= len("YYYYMMDDHH"), f"give a valid {keyword}; it gives {text[8:40]!r}")
        try:
            return datetime.strptime(whole.ljust(14, "0"), "%Y%m%d%H%M%S")
        except ValueError:
            raise self.refused(f"give a valid {keyword}; it gives {text[:40]!r}") from None

    def number(self, of: Dataset, keyword: str, limits: tuple[float, float], unit: str) -> float:
        value: Any = of.get(keyword)
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = math.nan
        least, most = limits
        shown = "none" if value is None else str(value)[:40]
        self.require(
            least <= number <= most, f"have a {keyword} from {least:g} to {most:g} {unit}; it has {shown}"
        )
        return number

    def private(self, element: tuple[str, int, int]) -> float:
        """Number above 0 in a private element; 0 if there is none."""
        try:
            number = float(self.private_text(element) or 0.0)
        except ValueError:
            return 0.0
        return number if 0.0 < number < math.inf else 0.0

    def private_text(self, element: tuple[str, int, int]) -> str:
        creator, group, offset = element
        try:
            value = self.first.private_block(group, creator)[offset].value
        except KeyError:
            return ""
        return value.decode("ascii", "replace").strip() if isinstance(value, bytes) else str(value).strip()

    def require(self, holds: bool, what: str) -> None:
        if not holds:
            raise self.refused(what)

    def refused(self, what: str) -> CaseError:
        return CaseError(
            f"{self.name} must {what}. Its SUV cannot be known. Export the original PET with its "
            "radiopharmaceutical information, or convert it to SUV."
        )
