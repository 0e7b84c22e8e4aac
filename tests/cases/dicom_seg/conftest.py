"""Real series with their contours."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from lib.cases.case import Source
from lib.cases.dicom_seg.write import Author, write_segmentation
from lib.cases.formats.dicom import Series, read_series
from lib.cases.formats.image import Grid, Volume, read_grid, read_volume

SAMPLES = Path(__file__).parents[3] / "samples" / "dicom"
GLIOMA = {"necrotic core": 1, "oedema": 2, "enhancing": 3}
READER = Author("anna")
WRITTEN = datetime(2025, 3, 4, 10, 11, 12, 345, tzinfo=UTC)


@dataclass(frozen=True)
class Study:
    """One series and its contour.

    Attributes:
        gtv: The expert's contour, 0 and 1.
        parts: The contour as values 2 and 3, without 1.
    """

    series: Series
    grid: Grid
    gtv: NDArray[np.uint8]

    @property
    def parts(self) -> NDArray[np.uint8]:
        columns = np.arange(self.grid.shape[2]) % 2
        return (self.gtv * (2 + columns)).astype(np.uint8)

    def seg(
        self, array: NDArray[np.uint8], *, labels: dict[str, int] = GLIOMA, author: Author = READER
    ) -> Dataset:
        return write_segmentation(
            Volume(array, self.grid), self.series, labels=labels, author=author, written=WRITTEN
        )

    def renamed(self, **fields: str) -> Study:
        return replace(self, series=replace(self.series, **fields))


def read_study(patient: str, modality: str) -> Study:
    folder = SAMPLES / patient / modality
    contour = read_volume(Source(folder.parent / f"{modality}_GTV.nii.gz"))
    return Study(read_series(folder), read_grid(Source(folder)), contour.array.astype(np.uint8))


@pytest.fixture(scope="session")
def mr() -> Study:
    return read_study("STS_025", "MR_T1")
