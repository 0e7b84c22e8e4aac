"""Enhanced (multi-frame) CT, MR and PET are read by the place and the scale of each frame, or named."""

from __future__ import annotations

import contextlib
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray
from pydicom.uid import RLELossless, generate_uid

from lib.cases.case import CaseError, Source
from lib.cases.discovery.layouts import find_pool
from lib.cases.formats import dicom_file
from lib.cases.formats.dicom import read_series
from lib.cases.formats.dicom_folder import list_series
from lib.cases.formats.image import read_volume
from tests.support.dicom_mutants import spoiled_fields, spoiled_files
from tests.support.enhanced import COLUMNS, ROWS, Frame, item, write_enhanced

LEGACY_CT, LEGACY_PET = "1.2.840.10008.5.1.4.1.1.2.2", "1.2.840.10008.5.1.4.1.1.128.1"
SHUFFLED = (6.0, 0.0, 4.0, 2.0)  # mm, of the frames in the order of the file


def frames(**groups: dict[str, object]) -> list[Frame]:
    return [Frame(z, stored=int(z), groups=groups) for z in SHUFFLED]


def refusal(folder: Path) -> str:
    with pytest.raises(CaseError) as caught:
        read_series(folder)
    return str(caught.value)


@pytest.mark.parametrize("geometry", ["shared", "per frame"])
def test_frames_are_ordered_by_their_place_and_scaled_each_by_its_own(tmp_path: Path, geometry: str) -> None:
    given = [Frame(z, stored=10, slope=0.5 + z, intercept=-z) for z in SHUFFLED]
    write_enhanced(tmp_path / "IM1", given, geometry=geometry)
    series, volume = read_series(tmp_path), read_volume(Source(tmp_path))
    assert (series.shape, len(series.files)) == ((4, ROWS, COLUMNS), 1)
    np.testing.assert_allclose(volume.array[:, 2, 3], [10 * (0.5 + z) - z for z in sorted(SHUFFLED)])
    np.testing.assert_allclose(volume.grid.affine, np.diag([-1.0, -1.5, 2.0, 1.0]))


def test_every_pixel_of_a_frame_stays_at_its_place(tmp_path: Path) -> None:
    pixels = np.arange(4 * ROWS * COLUMNS).reshape(4, ROWS, COLUMNS)
    write_enhanced(tmp_path / "IM1", frames(), pixels=pixels)
    np.testing.assert_array_equal(read_volume(Source(tmp_path)).array, pixels[np.argsort(SHUFFLED)])


def test_objects_of_one_frame_each_are_slices(tmp_path: Path) -> None:
    uid = generate_uid()
    for z in SHUFFLED:
        write_enhanced(tmp_path / f"{z:g}.dcm", [Frame(z, stored=int(z))], SeriesInstanceUID=uid)
    np.testing.assert_array_equal(read_volume(Source(tmp_path)).array[:, 0, 0], sorted(SHUFFLED))


@pytest.mark.parametrize(
    ("group", "keyword", "values", "said"),
    [
        ("MRDiffusionSequence", "DiffusionBValue", (0.0, 1000.0), "b-value: 0, 1000"),
        (
            "MRDiffusionSequence",
            "DiffusionGradientDirectionSequence",
            ([item(DiffusionGradientOrientation=[1, 0, 0])], [item(DiffusionGradientOrientation=[0, 1, 0])]),
            "direction of diffusion: 1 0 0, 0 1 0",
        ),
        ("MREchoSequence", "EffectiveEchoTime", (2.5, 5.0), "echo time: 2.5, 5"),
        ("FrameContentSequence", "TemporalPositionIndex", (1, 2), "time point: 1, 2"),
        (
            "MRImageFrameTypeSequence",
            "ComplexImageComponent",
            ("MAGNITUDE", "PHASE"),
            "component: MAGNITUDE, PHASE",
        ),
        (
            "MRImageFrameTypeSequence",
            "FrameType",
            (["DERIVED", "PRIMARY", "DIXON", "WATER"], ["DERIVED", "PRIMARY", "DIXON", "FAT"]),
            "kind of image: DERIVED PRIMARY DIXON WATER, DERIVED PRIMARY DIXON FAT",
        ),
        (
            "CardiacSynchronizationSequence",
            "NominalCardiacTriggerDelayTime",
            (0.0, 50.0),
            "time in the heart cycle",
        ),
    ],
)
def test_several_volumes_in_one_object_are_named_and_never_mixed(
    tmp_path: Path, group: str, keyword: str, values: tuple[Any, Any], said: str
) -> None:
    both = [Frame(z, groups={group: {keyword: value}}) for value in values for z in SHUFFLED]
    write_enhanced(tmp_path / "p" / "T1" / "IM1", both)
    text = refusal(tmp_path / "p" / "T1")
    assert "must hold one volume; it holds 8 slices at 4 positions (2 volumes)" in text
    assert said in text
    assert any(said in skipped.reason for skipped in find_pool(tmp_path).skipped)


def test_several_objects_of_a_volume_each_are_several_volumes(tmp_path: Path) -> None:
    uid = generate_uid()
    for time in (1, 2, 3):
        write_enhanced(
            tmp_path / f"{time}.dcm",
            frames(FrameContentSequence={"TemporalPositionIndex": time}),
            SeriesInstanceUID=uid,
        )
    text = refusal(tmp_path)
    assert "12 slices at 4 positions (3 volumes)" in text
    assert "time point: 1, 2, 3" in text


@pytest.mark.parametrize(
    ("group", "keyword", "values"),
    [
        ("MRDiffusionSequence", "DiffusionBValue", (0.0, 1000.0)),
        ("MREchoSequence", "EffectiveEchoTime", (2.5, 5.0)),
        ("MRImageFrameTypeSequence", "ComplexImageComponent", ("MAGNITUDE", "PHASE")),
    ],
)
def test_slices_of_two_contrasts_make_no_volume_even_side_by_side(
    tmp_path: Path, group: str, keyword: str, values: tuple[Any, Any]
) -> None:
    write_enhanced(tmp_path / "IM1", [Frame(z, groups={group: {keyword: values[z > 3]}}) for z in SHUFFLED])
    assert "must hold one volume; it holds 4 slices at 4 positions." in refusal(tmp_path)


def test_frames_without_a_place_of_their_own_are_refused(tmp_path: Path) -> None:
    write_enhanced(tmp_path / "IM1", frames(), NumberOfFrames=5)
    assert "5 frames, of which 4 have a position in space" in refusal(tmp_path)
    file = pydicom.dcmread(tmp_path / "IM1")
    del file.PerFrameFunctionalGroupsSequence
    file.ImagePositionPatient = [0, 0, 0]
    file.save_as(tmp_path / "IM1")
    assert "5 frames, of which 0 have a position in space" in refusal(tmp_path)


def test_an_object_with_fewer_pixels_than_frames_is_refused(tmp_path: Path) -> None:
    write_enhanced(tmp_path / "IM1", frames(), pixels=np.zeros((3, ROWS, COLUMNS)))
    with pytest.raises(CaseError, match="must hold 4 frames"):
        read_volume(Source(tmp_path))


def test_a_larger_volume_than_allowed_is_refused_before_it_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_enhanced(tmp_path / "IM1", frames())
    monkeypatch.setattr("lib.cases.formats.image.decode", lambda slices: pytest.fail("it was decoded"))
    with pytest.raises(CaseError, match="must have at most 100 voxels; its header says 120"):
        read_volume(Source(tmp_path), max_voxels=100)


def test_a_header_of_frames_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_enhanced(tmp_path / "IM1", frames())
    monkeypatch.setattr(dicom_file, "FRAMES_ITEMS", 10)
    assert "must have a header of usual length" in refusal(tmp_path)


@pytest.mark.parametrize("kind", ["files", "fields"])
def test_a_spoiled_object_is_read_or_refused_in_a_sentence(tmp_path: Path, kind: str) -> None:
    write_enhanced(tmp_path / "IM1", frames(MREchoSequence={"EffectiveEchoTime": 2.0}))
    whole = (tmp_path / "IM1").read_bytes()
    spoiled = (
        spoiled_files(whole, 40, seed=1)
        if kind == "files"
        else spoiled_fields(pydicom.dcmread(BytesIO(whole)), 40, seed=2)
    )
    read = 0
    for data in spoiled:
        (tmp_path / "IM1").write_bytes(data)
        with contextlib.suppress(CaseError):
            for uid in list_series(tmp_path):
                read += read_volume(Source(tmp_path, series=uid)).array.shape == (4, ROWS, COLUMNS)
    assert read


def test_a_legacy_converted_ct_is_read_in_hu(tmp_path: Path) -> None:
    given = [Frame(z, stored=1000, intercept=-1024.0) for z in SHUFFLED]
    write_enhanced(tmp_path / "IM1", given, modality="CT", kind=LEGACY_CT)
    np.testing.assert_array_equal(read_volume(Source(tmp_path)).array, -24.0)


def packed(pixels: NDArray[np.uint16], kind: str, folder: Path) -> pydicom.Dataset:
    """Frames in a compressed file of ITK or pydicom."""
    writer = sitk.ImageFileWriter()
    writer.SetFileName(str(folder / "packed.dcm"))
    writer.SetImageIO("GDCMImageIO")
    if kind != "RLE":
        writer.UseCompressionOn()
        writer.SetCompressor(kind)
    writer.Execute(sitk.GetImageFromArray(pixels))
    file = pydicom.dcmread(folder / "packed.dcm")
    (folder / "packed.dcm").unlink()
    if kind == "RLE":
        file.compress(RLELossless)
    return file


@pytest.mark.parametrize("kind", ["JPEG2000", "JPEG", "RLE"])
def test_compressed_frames_are_decoded_like_plain_ones(tmp_path: Path, kind: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 4000, (4, 64, 48)).astype(np.uint16)
    write_enhanced(tmp_path / "IM1", frames(), pixels=pixels, Rows=64, Columns=48)
    file, whole = packed(pixels, kind, tmp_path), pydicom.dcmread(tmp_path / "IM1")
    assert file.file_meta.TransferSyntaxUID.is_compressed
    whole["PixelData"] = file["PixelData"]
    whole.file_meta.TransferSyntaxUID = file.file_meta.TransferSyntaxUID
    whole.save_as(tmp_path / "IM1")
    np.testing.assert_array_equal(read_volume(Source(tmp_path)).array, pixels[np.argsort(SHUFFLED)])


def tracer(**more: object) -> dict[str, Any]:
    given = item(
        RadionuclideTotalDose=3.6e8,
        RadionuclideHalfLife=3600.0,
        RadiopharmaceuticalStartDateTime="20200102100000",
    )
    return {"PatientWeight": 72.0, "RadiopharmaceuticalInformationSequence": [given], **more}


def becquerel(slope: float = 1.0) -> dict[str, Any]:
    return {
        "RealWorldValueMappingSequence": {
            "RealWorldValueSlope": slope,
            "RealWorldValueIntercept": 0.0,
            "MeasurementUnitsCodeSequence": [item(CodeValue="Bq/ml", CodingSchemeDesignator="UCUM")],
        }
    }


def test_an_enhanced_pet_in_becquerel_becomes_suv(tmp_path: Path) -> None:
    said = tracer(DecayCorrected="YES", DecayCorrectionDateTime="20200102110000")
    write_enhanced(tmp_path / "IM1", frames(**becquerel()), modality="PT", **said)
    np.testing.assert_allclose(  # one half-life after the injection
        read_volume(Source(tmp_path)).array[:, 0, 0],
        [z * 72000.0 / 1.8e8 for z in sorted(SHUFFLED)],
        rtol=1e-6,
    )


@pytest.mark.parametrize(
    ("mapping", "said"),
    [
        ({}, {"DecayCorrected": "YES", "DecayCorrectionDateTime": "20200102110000"}),
        (becquerel(2.0), {"DecayCorrected": "YES", "DecayCorrectionDateTime": "20200102110000"}),
        (becquerel(), {"DecayCorrected": "NO"}),
        (becquerel(), {"DecayCorrected": "YES"}),
    ],
)
def test_an_enhanced_pet_of_unknown_unit_or_correction_is_refused(
    tmp_path: Path, mapping: dict[str, Any], said: dict[str, str]
) -> None:
    write_enhanced(tmp_path / "IM1", frames(**mapping), modality="PT", **tracer(**said))
    assert "Its SUV cannot be known" in refusal(tmp_path)


def test_a_legacy_converted_pet_keeps_the_words_of_its_slices(tmp_path: Path) -> None:
    shared = {"UnassignedSharedConvertedAttributesSequence": {"Units": "BQML", "DecayCorrection": "ADMIN"}}
    write_enhanced(tmp_path / "IM1", frames(), modality="PT", kind=LEGACY_PET, shared=shared, **tracer())
    np.testing.assert_allclose(read_volume(Source(tmp_path)).array[3], 6 * 72000.0 / 3.6e8, rtol=1e-6)


@pytest.mark.parametrize(
    ("usage", "modality"),
    [
        ({"ContrastBolusAgentAdministered": "YES"}, "T1ce"),
        ({"ContrastBolusAgentPhase": "POST_CONTRAST"}, "T1ce"),
        ({"ContrastBolusAgentPhase": "PRE_CONTRAST"}, "T1"),
        ({"ContrastBolusAgentAdministered": "NO"}, "T1"),
        (None, "T1ce"),
    ],
)
def test_an_enhanced_t1_after_the_agent_is_no_t1(
    tmp_path: Path, usage: dict[str, object] | None, modality: str
) -> None:
    groups = {"ContrastBolusUsageSequence": usage} if usage else {}
    agent = item(CodeValue="C-B0322", CodeMeaning="Gadobutrol")
    write_enhanced(tmp_path / "p" / "s1" / "IM1", frames(**groups), ContrastBolusAgentSequence=[agent])
    assert find_pool(tmp_path).modalities == (modality,)


@pytest.mark.parametrize(
    ("group", "attributes", "modality"),
    [
        ("MRDiffusionSequence", {"DiffusionBValue": 800.0}, "DWI"),
        ("MRImageFrameTypeSequence", {"AcquisitionContrast": "DIFFUSION"}, "DWI"),
        ("MRImageFrameTypeSequence", {"FrameType": ["DERIVED", "PRIMARY", "DIFFUSION", "ADC"]}, "ADC"),
    ],
)
def test_the_functional_groups_name_the_modality_before_the_description(
    tmp_path: Path, group: str, attributes: dict[str, object], modality: str
) -> None:
    write_enhanced(tmp_path / "p" / "s1" / "IM1", frames(), shared={group: attributes})
    assert find_pool(tmp_path).modalities == (modality,)


def test_a_phase_image_is_no_t1(tmp_path: Path) -> None:
    shared = {"MRImageFrameTypeSequence": {"ComplexImageComponent": "PHASE"}}
    write_enhanced(tmp_path / "p" / "s1" / "IM1", frames(), shared=shared)
    pool = find_pool(tmp_path)
    assert not pool.cases
    assert any("must be a magnitude image; its header says PHASE" in item.reason for item in pool.skipped)
