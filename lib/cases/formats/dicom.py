"""Series of DICOM slices: their files, order, position in space and unit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from lib.cases.case import CaseError
from lib.cases.formats import functional_groups
from lib.cases.formats.acquisition import UNSAID, Acquisition
from lib.cases.formats.dicom_folder import HEADER_TAGS, Headers, list_series
from lib.cases.formats.headers import RAS_LPS
from lib.cases.formats.slice_header import SliceHeader
from lib.cases.formats.slice_places import SlicePlaces
from lib.cases.formats.slice_stack import stacked
from lib.cases.formats.suv import suv_factor
from lib.cases.unexpected_errors import as_case_error

_SHOWN_LETTERS = 64  # of a text of the header in errors


@dataclass(frozen=True, eq=False)
class Series:
    """One 3-D series.

    Attributes:
        uid: SeriesInstanceUID.
        study: StudyInstanceUID.
        frame_of_reference: FrameOfReferenceUID.
        patient: PatientID.
        modality: DICOM Modality.
        description: SeriesDescription.
        slices: Slices in the order of their position along the slice normal.
        affine_lps: Maps (i along W, j along H, k along D, 1) of the slices to LPS mm, shape (4, 4).
        suv_factor: Decoded value x factor = SUV by body weight; 1 for other modalities.
        made: What the first slice's header says of how the series was made.
    """

    uid: str
    study: str
    frame_of_reference: str
    patient: str
    modality: str
    description: str
    slices: tuple[SliceHeader, ...]
    affine_lps: NDArray[np.float64]
    suv_factor: float
    made: Acquisition = UNSAID

    @property
    def files(self) -> tuple[Path, ...]:
        """Files in the order of their slices; a multi-frame file is named once."""
        return tuple(dict.fromkeys(each.path for each in self.slices))

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape (D, H, W) of the slices."""
        return (len(self.slices), *self.slices[0].size)

    @cached_property
    def places(self) -> SlicePlaces:
        """Where the slices lie, and the straight grid that holds them."""
        return SlicePlaces(self.shape, RAS_LPS @ self.affine_lps)


def read_series(folder: Path, uid: str | None = None) -> Series:
    """Series in a folder; `uid` selects one if there are several.

    Raises:
        CaseError: If the folder has no series or several, a file is damaged, or the slices do not form a
            volume.
    """
    headers = list_series(folder)
    if uid is None and len(headers) == 1:
        uid = next(iter(headers))
    if uid not in headers:
        raise CaseError(
            f"{folder} must hold one DICOM series; found {len(headers)}"
            f"{' without ' + uid if uid else ''}. Put each series in a folder of its own."
        )
    with as_case_error(f"series {uid} in {folder}"):
        return _assemble(folder, uid, headers[uid])


def _assemble(folder: Path, uid: str, headers: Headers) -> Series:
    first = headers[0][1]
    name = _name(folder, uid, first)
    found = list(_slices(headers, name))
    checked = [SliceHeader.of(path, header, name, frame=index) for path, index, header in found]
    slices, affine = stacked(checked, name)
    return Series(
        uid=uid,
        study=slices[0].study,
        frame_of_reference=slices[0].frame_of_reference,
        patient=slices[0].patient,
        modality=slices[0].modality,
        description=str(first.get("SeriesDescription", "")),
        slices=slices,
        affine_lps=affine,
        suv_factor=suv_factor([header for *_, header in found], name),
        made=Acquisition.of(found[0][-1]),
    )


def _slices(headers: Headers, name: str) -> Iterator[tuple[Path, int | None, Dataset]]:
    """Every slice with its file, the index of its frame in a multi-frame file, and its header."""
    for path, header in headers:
        if "Rows" not in header:
            raise CaseError(
                f"{path.name} of {name} must be an image; its header has no Rows. Export it again."
            )
        if functional_groups.has_frames(header):
            for index, frame in enumerate(functional_groups.frames_of(path, HEADER_TAGS, name)):
                yield path, index, frame
        else:
            yield path, None, header


def _name(folder: Path, uid: str, header: Dataset) -> str:
    """Name of a series in error messages."""
    modality, description = (
        str(header.get(keyword, ""))[:_SHOWN_LETTERS] for keyword in ("Modality", "SeriesDescription")
    )
    return f"series {uid} ({modality} '{description}') in {folder}"
