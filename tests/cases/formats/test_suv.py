"""SUV by body weight, against the closed form, and what is refused because it cannot be known."""

from __future__ import annotations

from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from lib.cases.case import CaseError
from lib.cases.formats.suv import suv_factor

F18_S, GA68_S, C11_S, Y90_S, ZR89_S = 6588.0, 4062.6, 1223.4, 230_400.0, 282_240.0
TRACER = {
    "RadionuclideTotalDose": 3.7e8,
    "RadionuclideHalfLife": F18_S,
    "RadiopharmaceuticalStartTime": "100000",
}
SCAN = {
    "Modality": "PT",
    "Units": "BQML",
    "DecayCorrection": "START",
    "PatientWeight": 74.0,
    "SeriesDate": "20260301",
    "SeriesTime": "110000",
    "AcquisitionDate": "20260301",
    "AcquisitionTime": "110000",
}


def series(
    tracer: dict[str, Any] | None = None, *, later: tuple[str, ...] = (), **scan: Any
) -> list[Dataset]:
    """Headers of a series that differs from the usual one; `later` are AcquisitionTimes of further slices."""
    dose = Dataset()
    for keyword, value in {**TRACER, **(tracer or {})}.items():
        if value is not None:
            setattr(dose, keyword, value)
    headers = []
    for time in (None, *later):
        header = Dataset()
        for keyword, value in {**SCAN, **scan, **({"AcquisitionTime": time} if time else {})}.items():
            if value is not None:
                setattr(header, keyword, value)
        header.RadiopharmaceuticalInformationSequence = Sequence([dose])
        headers.append(header)
    return headers


def expected(hours: float, *, half_life: float = F18_S, dose: float = 3.7e8, weight: float = 74.0) -> float:
    return weight * 1000.0 / (dose * 0.5 ** (hours * 3600.0 / half_life))


AT_MIDNIGHT = {"SeriesTime": "003000", "AcquisitionTime": "003000"}
NEXT_DAY = {"SeriesDate": "20260302", "SeriesTime": "090000"}


@pytest.mark.parametrize(
    ("headers", "factor"),
    [
        pytest.param(series(), expected(1.0), id="an hour after the injection"),
        pytest.param(series(SeriesTime="140000"), expected(1.0), id="a series made three hours later"),
        pytest.param(series(**NEXT_DAY), expected(1.0), id="a series made the next day"),
        pytest.param(series(SeriesTime="105500"), expected(55 / 60), id="a series that began before"),
        pytest.param(
            series(SeriesTime="140000", AcquisitionTime="111000", later=("110000", "112000")),
            expected(1.0),
            id="the earliest of several beds",
        ),
        pytest.param(series(SeriesTime=None), expected(1.0), id="no SeriesTime"),
        pytest.param(
            series(SeriesTime="110000.25", AcquisitionTime="110000.5"), expected(1.0), id="fractions"
        ),
        pytest.param(series(DecayCorrection="ADMIN"), expected(0.0), id="corrected to the injection"),
        pytest.param(series(PatientWeight=30.0), expected(1.0, weight=30.0), id="a child"),
        pytest.param(series({"RadionuclideTotalDose": 1e8}), expected(1.0, dose=1e8), id="a smaller dose"),
        pytest.param(series({"RadionuclideHalfLife": GA68_S}), expected(1.0, half_life=GA68_S), id="gallium"),
        pytest.param(
            series({"RadionuclideHalfLife": C11_S, "RadiopharmaceuticalStartTime": "104500"}),
            expected(0.25, half_life=C11_S),
            id="carbon",
        ),
        pytest.param(
            series({"RadiopharmaceuticalStartTime": "233000"}, **AT_MIDNIGHT),
            expected(1.0),
            id="past midnight",
        ),
        pytest.param(
            series({"RadiopharmaceuticalStartDateTime": "20260228233000.00"}, **AT_MIDNIGHT),
            expected(1.0),
            id="past midnight, with its date",
        ),
        pytest.param(
            series({"RadiopharmaceuticalStartDateTime": "20260301100000+0100"}), expected(1.0), id="an offset"
        ),
        pytest.param(
            series(
                {
                    "RadiopharmaceuticalStartDateTime": "20260226110000",
                    "RadionuclideHalfLife": Y90_S,
                    "RadionuclideTotalDose": 2e9,
                }
            ),
            expected(72.0, half_life=Y90_S, dose=2e9),
            id="yttrium after three days",
        ),
        pytest.param(
            series({"RadiopharmaceuticalStartDateTime": "20260225110000", "RadionuclideHalfLife": ZR89_S}),
            expected(96.0, half_life=ZR89_S),
            id="zirconium after four days",
        ),
        pytest.param(series(Units="GML"), 1.0, id="SUV already"),
        pytest.param(series(Units="GML", SUVType="BW"), 1.0, id="SUV by body weight already"),
        pytest.param(series(Modality="CT"), 1.0, id="no PET"),
    ],
)
def test_the_factor_is_the_closed_form(headers: list[Dataset], factor: float) -> None:
    assert suv_factor(headers, "series 1") == pytest.approx(factor, rel=1e-6)


def with_private(creator: str, element: tuple[int, int], value: Any, vr: str, **scan: Any) -> list[Dataset]:
    headers = series(**scan)
    block = headers[0].private_block(element[0], creator, create=True)
    block.add_new(element[1], vr, value)
    return headers


def test_the_scanners_own_elements_are_used_where_the_standard_ones_do_not_say() -> None:
    ge = with_private("GEMS_PETD_01", (0x0009, 0x0D), "20260301105000.00", "DT", SeriesTime="140000")
    assert suv_factor(ge, "s") == pytest.approx(expected(50 / 60))
    philips = "Philips PET Private Group"
    assert suv_factor(with_private(philips, (0x7053, 0x00), 5e-4, "DS", Units="CNTS"), "s") == 5e-4
    activity = with_private(philips, (0x7053, 0x09), 2.0, "DS", Units="CNTS")
    assert suv_factor(activity, "s") == pytest.approx(2.0 * expected(1.0))


@pytest.mark.parametrize(
    ("headers", "sentence"),
    [
        pytest.param(
            series({"RadiopharmaceuticalStartTime": "110200"}),
            "scanned after the injection",
            id="two minutes late",
        ),
        pytest.param(series(DecayCorrection="NONE"), "corrected for decay", id="not corrected"),
        pytest.param(series(DecayCorrection=None), "corrected for decay", id="nothing on the correction"),
        pytest.param(series({"RadionuclideTotalDose": 370.0}), "RadionuclideTotalDose from", id="MBq"),
        pytest.param(series({"RadionuclideTotalDose": None}), "it has none", id="no dose"),
        pytest.param(series({"RadionuclideTotalDose": "nan"}), "RadionuclideTotalDose from", id="no number"),
        pytest.param(series(PatientWeight=74_000.0), "PatientWeight from", id="grams"),
        pytest.param(series(PatientWeight=None), "PatientWeight from", id="no weight"),
        pytest.param(series({"RadionuclideHalfLife": 0.0}), "RadionuclideHalfLife from", id="no half-life"),
        pytest.param(
            series({"RadionuclideHalfLife": Y90_S}), "give RadiopharmaceuticalStartDateTime", id="which day"
        ),
        pytest.param(
            series({"RadiopharmaceuticalStartDateTime": "20260228100000"}),
            "within 10 half-lives",
            id="a day early",
        ),
        pytest.param(
            series({"RadiopharmaceuticalStartTime": None}), "valid RadiopharmaceuticalStartTime", id="no time"
        ),
        pytest.param(series(AcquisitionTime=None), "give AcquisitionTime", id="no acquisition"),
        pytest.param(series(AcquisitionTime="soon"), "valid AcquisitionTime", id="no time of acquisition"),
        pytest.param(series(Units="CNTS"), "counts with the scanner's own factor", id="counts"),
        pytest.param(series(Units="PROPCPS"), "its Units are 'PROPCPS'", id="other units"),
        pytest.param(series(Units="GML", SUVType="LBM"), "its SUVType is 'LBM'", id="by lean body mass"),
    ],
)
def test_what_cannot_be_known_is_refused_with_a_sentence(headers: list[Dataset], sentence: str) -> None:
    with pytest.raises(CaseError, match="Its SUV cannot be known") as caught:
        suv_factor(headers, "series 1")
    assert sentence in str(caught.value)


def test_two_injections_are_refused() -> None:
    headers = series()
    headers[0].RadiopharmaceuticalInformationSequence.append(Dataset())
    with pytest.raises(CaseError, match="must name one radiopharmaceutical; it names 2"):
        suv_factor(headers, "series 1")
