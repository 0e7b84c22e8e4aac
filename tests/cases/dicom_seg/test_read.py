from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import RLELossless

from lib.cases.case import CaseError
from lib.cases.dicom_seg.read import describe, parse, read_segmentation
from lib.cases.dicom_seg.write import Author
from lib.cases.formats.image import Volume
from tests.cases.dicom_seg.conftest import GLIOMA, WRITTEN, Study, read_study
from tests.support.viewers import ohif_seg, slicer_seg

GTV = {"GTV": 1}


def even(data: bytes) -> bytes:
    """DICOM's values have an even length."""
    return data + b"\0" * (len(data) % 2)


def test_what_slicer_stored_is_read_by_name_though_its_numbers_differ(mr: Study, tmp_path: Path) -> None:
    names = {"Enhancing": 3, "Edema": 2}
    dataset = slicer_seg(Volume(mr.parts, mr.grid), mr.series, names=names, folder=tmp_path)
    numbers = {segment.SegmentLabel: segment.SegmentNumber for segment in dataset.SegmentSequence}
    assert all(numbers[name] != value for name, value in names.items())
    np.testing.assert_array_equal(read_segmentation(dataset, mr.series.places, labels=GLIOMA).array, mr.parts)
    assert describe(dataset).references == (mr.series.uid,)
    assert describe(dataset).algorithm_type == "SEMIAUTOMATIC"


def test_what_ohif_stored_is_read_by_name(mr: Study) -> None:
    dataset = ohif_seg({"Oedema": mr.parts == 2, "enhancing": mr.parts == 3}, mr.series)
    np.testing.assert_array_equal(read_segmentation(dataset, mr.series.places, labels=GLIOMA).array, mr.parts)
    description = describe(dataset)
    assert description.references == (mr.series.uid,)
    assert (description.author, description.algorithm_type) == ("OHIF Brush", "MANUAL")


def test_ohifs_unnamed_segment_is_the_lone_label(mr: Study) -> None:
    dataset = ohif_seg({"Segment 1": mr.gtv > 0}, mr.series)
    np.testing.assert_array_equal(read_segmentation(dataset, mr.series.places, labels=GTV).array, mr.gtv)


def test_a_segment_without_a_name_is_one_that_nobody_named(mr: Study) -> None:
    dataset = ohif_seg({"": mr.gtv > 0}, mr.series)
    del dataset.SegmentSequence[0].SegmentLabel
    assert describe(dataset).segments == ("Segment 1",)


def test_a_compressed_mask_of_dcmjs_is_not_taken_for_a_faint_probability(mr: Study) -> None:
    dataset = ohif_seg({"GTV": mr.gtv > 0}, mr.series)
    frames = mr.gtv[mr.gtv.any(axis=(1, 2))]
    dataset.SegmentationType, dataset.MaximumFractionalValue = "FRACTIONAL", 255
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit = 7
    dataset.compress(RLELossless, frames)
    np.testing.assert_array_equal(read_segmentation(dataset, mr.series.places, labels=GTV).array, mr.gtv)


def test_a_fractional_segment_covers_a_voxel_from_half_its_maximum_on(mr: Study) -> None:
    dataset = ohif_seg({"GTV": mr.gtv > 0}, mr.series)
    dataset.SegmentationType, dataset.MaximumFractionalValue = "FRACTIONAL", 200
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit = 7
    column = np.arange(mr.grid.shape[2])
    values = (99 + column % 2) * mr.gtv[mr.gtv.any(axis=(1, 2))]
    dataset.PixelData = even(values.astype(np.uint8).tobytes())
    back = read_segmentation(dataset, mr.series.places, labels=GTV).array
    np.testing.assert_array_equal(back, mr.gtv * (column % 2))


def test_of_overlapping_segments_the_higher_value_wins_in_whatever_order_they_come(mr: Study) -> None:
    inner = mr.parts == 3
    for masks in (
        {"oedema": mr.gtv > 0, "enhancing": inner},
        {"enhancing": inner, "oedema": mr.gtv > 0},
    ):
        back = read_segmentation(ohif_seg(masks, mr.series), mr.series.places, labels=GLIOMA)
        np.testing.assert_array_equal(back.array, mr.parts)


def test_a_frame_smaller_than_the_slice_lands_where_it_says(mr: Study) -> None:
    dataset = ohif_seg({"GTV": mr.gtv > 0}, mr.series)
    rows, columns = 40, 50
    top, left = 5, 10
    frames = dataset.pixel_array[:, top : top + rows, left : left + columns]
    between_rows, between_columns = map(
        float, dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing
    )
    orientation = (
        dataset.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0].ImageOrientationPatient
    )
    along_row, along_column = np.reshape(np.array(orientation, dtype=float), (2, 3))
    for frame in dataset.PerFrameFunctionalGroupsSequence:
        position = frame.PlanePositionSequence[0]
        shift = left * between_columns * along_row + top * between_rows * along_column
        position.ImagePositionPatient = [
            f"{value:.8g}" for value in np.array(position.ImagePositionPatient, float) + shift
        ]
    dataset.Rows, dataset.Columns = rows, columns
    dataset.PixelData = even(np.packbits(frames.ravel(), bitorder="little").tobytes())
    expected = np.zeros_like(mr.gtv)
    inside = np.s_[:, top : top + rows, left : left + columns]
    expected[inside] = mr.gtv[inside]
    assert expected.any()
    np.testing.assert_array_equal(read_segmentation(dataset, mr.series.places, labels=GTV).array, expected)


def test_a_segmentation_of_another_series_grid_is_an_error_that_names_a_frame(mr: Study) -> None:
    pet = read_study("STS_025", "PET")
    with pytest.raises(CaseError, match=r"must lie on the slices of the series.*frame 1 of .* mm"):
        read_segmentation(ohif_seg({"GTV": pet.gtv > 0}, pet.series), mr.series.places, labels=GTV)


def test_a_frame_half_a_slice_off_is_an_error(mr: Study) -> None:
    dataset = ohif_seg({"GTV": mr.gtv > 0}, mr.series)
    position = dataset.PerFrameFunctionalGroupsSequence[2].PlanePositionSequence[0]
    along = mr.series.affine_lps[:3, 2] / 2
    position.ImagePositionPatient = [
        f"{value:.8g}" for value in np.array(position.ImagePositionPatient, dtype=float) + along
    ]
    with pytest.raises(CaseError, match="frame 3 of"):
        read_segmentation(dataset, mr.series.places, labels=GTV)


def test_other_structures_are_an_error_that_names_them(mr: Study) -> None:
    with pytest.raises(
        CaseError, match="must be named 'necrotic core', 'oedema', 'enhancing'; found 'liver'"
    ):
        read_segmentation(ohif_seg({"liver": mr.gtv > 0}, mr.series), mr.series.places, labels=GLIOMA)


def test_the_header_is_described_without_its_pixels(mr: Study) -> None:
    dataset = mr.seg(mr.parts, author=Author("CIML", "3"))
    bare = Dataset.from_json(
        {tag: value for tag, value in dataset.to_json_dict().items() if tag != "7FE00010"}
    )
    description = describe(bare)
    assert description == describe(dataset)
    assert (description.instance, description.study) == (dataset.SOPInstanceUID, mr.series.study)
    assert (description.author, description.algorithm_type) == ("CIML", "AUTOMATIC")
    assert (description.segments, description.written) == (tuple(GLIOMA), WRITTEN)


def test_an_image_is_not_a_segmentation(mr: Study) -> None:
    image = parse(mr.series.files[0].read_bytes())
    for read in (describe, lambda dataset: read_segmentation(dataset, mr.series.places, labels=GTV)):
        with pytest.raises(
            CaseError, match=r"must be a DICOM SEG .*; got 1\.2\.840\.10008\.5\.1\.4\.1\.1\.4\."
        ):
            read(image)


def test_a_segmentation_without_segments_is_an_error(mr: Study) -> None:
    dataset = ohif_seg({"GTV": mr.gtv > 0}, mr.series)
    dataset.SegmentSequence = []
    with pytest.raises(CaseError, match="at least one segment; found none"):
        describe(dataset)


@pytest.mark.parametrize(
    "missing", ["PixelData", "PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence", "Rows"]
)
def test_a_segmentation_that_lacks_a_part_is_an_error(missing: str, mr: Study) -> None:
    dataset = ohif_seg({"GTV": mr.gtv > 0}, mr.series)
    del dataset[missing]
    with pytest.raises(CaseError, match="must be complete"):
        read_segmentation(dataset, mr.series.places, labels=GTV)


def test_a_file_cut_short_is_an_error_at_whatever_byte(mr: Study) -> None:
    file = BytesIO()
    mr.seg(mr.gtv, labels=GTV).save_as(file, write_like_original=False)
    whole = file.getvalue()
    for length in np.linspace(0, len(whole) - 2, 12).astype(int):
        with pytest.raises(CaseError):
            read_segmentation(parse(whole[:length]), mr.series.places, labels=GTV)


def test_a_frame_of_a_segment_that_is_not_described_is_an_error(mr: Study) -> None:
    dataset = ohif_seg({"GTV": mr.gtv > 0}, mr.series)
    frame = dataset.PerFrameFunctionalGroupsSequence[0]
    frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber = 9
    with pytest.raises(CaseError, match=r"must be complete.*9"):
        read_segmentation(dataset, mr.series.places, labels=GTV)
