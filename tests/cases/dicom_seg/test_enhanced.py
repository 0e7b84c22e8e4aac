"""A label of an enhanced (multi-frame) series goes out as DICOM SEG and comes back at the same place."""

from __future__ import annotations

from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest

from lib.cases.case import Source
from lib.cases.dicom_seg.read import parse, read_segmentation
from lib.cases.dicom_seg.write import Author, write_segmentation
from lib.cases.formats.dicom import read_series
from lib.cases.formats.image import Volume, read_grid
from lib.cases.formats.pydicom_versions import WHOLE_FILE
from tests.support.enhanced import Frame, write_enhanced

SHUFFLED = (6.0, 0.0, 4.0, 2.0)  # mm, of the frames in the order of the file


@pytest.mark.parametrize("geometry", ["shared", "per frame"])
@pytest.mark.parametrize("painted", ["one slice", "all", "nothing"])
def test_a_label_of_an_enhanced_series_comes_back_voxel_for_voxel(
    tmp_path: Path, geometry: str, painted: str
) -> None:
    path = tmp_path / "IM1"
    write_enhanced(path, [Frame(z) for z in SHUFFLED], geometry=geometry, spacing=(1 / 3, 2 / 3))
    series, grid = read_series(tmp_path), read_grid(Source(tmp_path))
    label = np.random.default_rng(0).integers(0, 3, grid.shape).astype(np.uint8)
    if painted != "all":
        label[[0, 2, 3] if painted == "one slice" else ...] = 0
    labels = {"core": 1, "oedema": 2}
    dataset = write_segmentation(
        Volume(label, grid),
        series,
        labels=labels,
        author=Author("anna"),
        written=datetime(2025, 3, 4, tzinfo=UTC),
    )
    file = BytesIO()
    dataset.save_as(file, **WHOLE_FILE)
    back = read_segmentation(parse(file.getvalue()), series.places, labels=labels)
    np.testing.assert_array_equal(back.array, label)


def test_each_frame_of_the_segmentation_names_the_frame_that_it_was_outlined_on(tmp_path: Path) -> None:
    write_enhanced(tmp_path / "IM1", [Frame(z) for z in SHUFFLED])
    series, grid = read_series(tmp_path), read_grid(Source(tmp_path))
    label = Volume(np.ones(grid.shape, dtype=np.uint8), grid)
    dataset = write_segmentation(
        label, series, labels={"GTV": 1}, author=Author("anna"), written=datetime(2025, 3, 4, tzinfo=UTC)
    )
    for frame in dataset.PerFrameFunctionalGroupsSequence:
        z = float(frame.PlanePositionSequence[0].ImagePositionPatient[2])
        (derived,) = frame.DerivationImageSequence
        assert SHUFFLED[int(derived.SourceImageSequence[0].ReferencedFrameNumber) - 1] == z
