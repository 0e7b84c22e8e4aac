"""What tells the volumes of one DICOM series apart: echoes, b-values, times, magnitude and phase."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from lib.cases.case import CaseError

_FIELDS = {  # keywords that may differ between the volumes of a series, and their names in errors
    "EchoTime": "echo time",
    "DiffusionBValue": "b-value",
    "DiffusionGradientOrientation": "direction of diffusion",
    "ComplexImageComponent": "component",
    "ImageType": "kind of image",
    "InversionTime": "inversion time",
    "TemporalPositionIndex": "time point",
    "TemporalPositionIdentifier": "time point",
    "TriggerTime": "time in the heart cycle",
    "FrameReferenceTime": "time of the frame",
    "SequenceName": "sequence",
    "AcquisitionNumber": "acquisition",
}
TAGS = tuple(_FIELDS)
_OF_A_VOLUME = ("EchoTime", "DiffusionBValue", "ComplexImageComponent")  # the same in all slices of a volume
_COMPONENTS = {"M": "MAGNITUDE", "P": "PHASE", "R": "REAL", "I": "IMAGINARY"}
_MOST_SHOWN = 4  # values of a field in an error


@dataclass(frozen=True)
class Contrast:
    """Values of a slice that may tell the volumes of its series apart.

    Attributes:
        values: Text of each of `TAGS`; empty where the header does not say.
    """

    values: tuple[str, ...]

    @classmethod
    def of(cls, header: Dataset) -> Contrast:
        """Read the header of a slice; what is malformed is compared as it stands."""
        texts = {keyword: _text(header.get(keyword)) for keyword in TAGS}
        texts["ComplexImageComponent"] = component_of(header)
        return cls(tuple(texts.values()))


def component_of(header: Dataset) -> str:
    """MAGNITUDE, PHASE, REAL or IMAGINARY; empty if an MR header does not say, and for other modalities."""
    if header.get("Modality") != "MR":
        return ""
    said = _text(header.get("ComplexImageComponent")).upper()
    if said in _COMPONENTS.values():
        return said
    kinds = _text(header.get("ImageType")).upper().split(" ")[2:]
    return next((_COMPONENTS[kind] for kind in kinds if kind in _COMPONENTS), "")


def check_one_volume(contrasts: Sequence[Contrast], positions: int, name: str) -> None:
    """Refuse slices of several volumes.

    Args:
        contrasts: Contrast of each slice.
        positions: Number of different positions of the slices.
        name: Name of the series in errors.

    Raises:
        CaseError: If slices share a position, or differ in what is the same in all slices of a volume.
    """
    differing = _differing(contrasts)
    if len(contrasts) == positions and not differing.keys() & {_FIELDS[keyword] for keyword in _OF_A_VOLUME}:
        return
    volumes, rest = divmod(len(contrasts), positions)
    what = f"{len(contrasts)} slices at {positions} positions" + (
        f" ({volumes} volumes)" if volumes > 1 and not rest else ""
    )
    apart = "; ".join(f"{field}: {_listed(values)}" for field, values in differing.items())
    raise CaseError(
        f"{name} must hold one volume; it holds {what}. They differ in "
        f"{apart or 'nothing that the header says: slices may be duplicated'}. Export each volume as a "
        "series of its own."
    )


def _differing(contrasts: Sequence[Contrast]) -> dict[str, list[str]]:
    """Values of each field that is not the same in all slices, in the order of the slices."""
    found = {}
    for index, keyword in enumerate(TAGS):
        values = list(dict.fromkeys(contrast.values[index] for contrast in contrasts))
        if len(values) > 1:
            found[_FIELDS[keyword]] = values
    return found


def _listed(values: Sequence[str]) -> str:
    shown = ", ".join(value or "none" for value in values[:_MOST_SHOWN])
    return shown if len(values) <= _MOST_SHOWN else f"{shown}, … ({len(values)} values)"


def _text(value: object) -> str:
    """Short text of a value; a number without the zeros that one scanner writes and another does not."""
    if isinstance(value, MultiValue | list | tuple):
        return " ".join(_text(each) for each in value)[:60]
    try:
        return f"{float(value):g}"  # type: ignore[arg-type]
    except (TypeError, ValueError):
        text = "" if value is None else str(value)[:60]
        return "".join(letter if letter.isprintable() else "?" for letter in text)
