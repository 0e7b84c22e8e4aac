"""Series of a tilted gantry: on a straight grid for who looks at them, on their own slices for their PACS."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
import torch

from lib.cases.case import CaseError, Source
from lib.cases.dicom_seg.read import parse, read_segmentation
from lib.cases.dicom_seg.write import Author, write_segmentation
from lib.cases.formats.dicom import read_series
from lib.cases.formats.headers import RAS_LPS
from lib.cases.formats.image import Grid, Volume, read_grid, read_volume
from lib.cases.formats.slice_places import SlicePlaces
from lib.ciml.network.ciml_network import CimlNetwork
from lib.pipeline.settings import AppSettings
from lib.pipeline.workspace import Workspace
from lib.server.tasks.infer import CimlInfer
from tests.cases.dicom_seg.conftest import WRITTEN
from tests.support.command_line import exit_code, said
from tests.support.images import tilt_series, write_series
from tests.support.trees import copied

SAMPLES = Path(__file__).parents[3] / "samples" / "dicom"
SLOPE = 0.01
STEPS = {  # mm from slice to slice
    "towards the feet": (0.0, 0.5, 2.0),
    "towards the head": (0.0, -0.9, 2.0),
    "sideways": (0.7, 0.0, 2.0),
    "both ways": (-0.6, 0.35, 2.0),
}


def brightness(positions: np.ndarray) -> np.ndarray:
    """Of a place in LPS mm; linear, so that interpolation changes nothing."""
    return 50.0 + positions @ np.array([1.5, 2.5, 0.75])


def places_of(affine_lps: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Position of every voxel in LPS mm, shape (*shape, 3)."""
    k, j, i = np.indices(shape)
    return np.stack([i, j, k], axis=-1) @ affine_lps[:3, :3].T + affine_lps[:3, 3]


def write_tilted(folder: Path, step: tuple[float, float, float], *, slices: int = 9, **tags: object) -> str:
    """A series of a thing whose brightness is known everywhere."""
    uid = write_series(folder, modality="CT", description="", study="1.2", slices=slices, step=step, **tags)
    for path in folder.glob("*.dcm"):
        header = pydicom.dcmread(path)
        affine = np.eye(4)
        affine[:3, 3] = header.ImagePositionPatient
        values = brightness(places_of(affine, (1, header.Rows, header.Columns)))
        header.RescaleSlope, header.RescaleIntercept = SLOPE, 0.0
        header.PixelData = np.rint(values / SLOPE).astype(np.uint16).tobytes()
        pydicom.dcmwrite(path, header)
    return uid


@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
def test_every_voxel_inside_the_slices_shows_what_is_at_its_place(
    tmp_path: Path, step: tuple[float, float, float]
) -> None:
    write_tilted(tmp_path, step)
    volume = read_volume(Source(tmp_path))
    expected = brightness(places_of(RAS_LPS @ volume.grid.affine, volume.grid.shape))
    inside = volume.array != volume.array.min()
    np.testing.assert_allclose(volume.array[inside], expected[inside], atol=SLOPE)
    stored = read_series(tmp_path).places
    lost = sum(2 if along else 1 for along in step[:2])  # at most the border of each slice
    assert inside.sum() >= 9 * (5 - lost + 1) * (6 - lost + 1)
    corners = places_of(RAS_LPS @ stored.affine, stored.shape).reshape(-1, 3)
    index = np.linalg.inv(RAS_LPS @ volume.grid.affine) @ np.c_[corners, np.ones(len(corners))].T
    assert (index[:3].T > -1e-6).all()
    assert (index[:3].T < np.array(volume.grid.shape[::-1]) - 1 + 1e-6).all()


def test_a_real_head_to_feet_series_that_was_tilted_comes_back_as_it_was(tmp_path: Path) -> None:
    folder = copied(SAMPLES / "STS_025", tmp_path, "CT") / "CT"
    straight = read_volume(Source(folder))
    tilt_series(folder, 17.0)
    assert read_series(folder).places.tilt == pytest.approx(17.0, abs=0.1)
    volume = read_volume(Source(folder))
    _, height, width = straight.array.shape
    apart = np.abs(volume.array[:, :height, :width] - straight.array)
    covered = volume.array[:, :height, :width] > straight.array.min()
    beside = np.abs(np.roll(straight.array, 1, axis=1) - straight.array)  # as if one row off
    assert np.median(apart[covered]) < 0.5 * np.median(beside[covered])  # after two interpolations


@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
def test_a_label_goes_back_onto_the_slices_and_comes_again_voxel_for_voxel(
    tmp_path: Path, step: tuple[float, float, float]
) -> None:
    write_tilted(tmp_path, step, slices=4)
    series, grid = read_series(tmp_path), read_grid(Source(tmp_path))
    drawn = np.random.default_rng(0).integers(0, 3, series.shape).astype(np.uint8)
    label = series.places.straightened_label(drawn)
    np.testing.assert_array_equal(series.places.on_slices(label), drawn)
    labels = {"core": 1, "oedema": 2}
    dataset = write_segmentation(
        Volume(label, grid), series, labels=labels, author=Author("anna"), written=WRITTEN
    )
    file = tmp_path / "seg.bin"
    dataset.save_as(file, write_like_original=False)
    back = read_segmentation(parse(file.read_bytes()), series.places, labels=labels)
    np.testing.assert_array_equal(back.array, label)
    assert back.grid.same_as(grid)
    at = {str(each.instance): each.position for each in series.slices}
    for frame in dataset.PerFrameFunctionalGroupsSequence:
        (source,) = frame.DerivationImageSequence[0].SourceImageSequence
        place = frame.PlanePositionSequence[0].ImagePositionPatient
        np.testing.assert_allclose(np.array(place, dtype=float), at[source.ReferencedSOPInstanceUID])


def test_the_check_says_that_a_series_was_straightened(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_tilted(tmp_path / "studies" / "p1" / "CT", (0.0, 0.5, 2.0))
    write_series(tmp_path / "studies" / "p1" / "T1", modality="MR", description="t1", study="1.2", slices=9)
    assert exit_code("check", tmp_path / "studies") == 0
    told = said(capsys.readouterr().out)
    assert "CT has slices tilted by 14.0 degrees" in told
    assert "resampled to a straight grid" in told
    assert "MR_T1 has slices tilted" not in told


def test_a_viewer_with_the_slices_gets_their_label_and_one_with_the_volume_gets_that(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    uid = write_tilted(tmp_path / "p1" / "CT", (0.0, 0.5, 2.0))
    workspace = Workspace(tmp_path, AppSettings())
    torch.manual_seed(0)
    workspace.models.publish(CimlNetwork(workspace.decomposition, workspace.preparation.modalities), {})
    case = workspace.pool.by_id["p1"]
    infer, asked = CimlInfer(workspace), {"case": case, "modality": "CT", "result_extension": ".nrrd"}
    files = [infer({**asked, "image": image, "result_compress": False})[0] for image in ("p1_CT", uid)]
    straight, sliced = (sitk.GetArrayFromImage(sitk.ReadImage(file)) for file in files)
    for file in files:
        Path(file).unlink()
    places = read_series(tmp_path / "p1" / "CT").places
    assert (straight.shape, sliced.shape) == (places.grid.shape, places.shape)
    assert 0 < sliced.sum() < sliced.size
    np.testing.assert_array_equal(sliced, places.on_slices(straight))


def test_an_oblique_volume_with_a_header_of_rounded_numbers_is_not_tilted() -> None:
    turned = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0] * (0.7, 0.7, 3.0)
    affine = np.eye(4)
    affine[:3, :3] = np.round(turned, 4)
    places = SlicePlaces((30, 40, 50), affine)
    assert (places.tilt, places.is_tilted) == (0.0, False)
    assert places.grid.same_as(Grid((30, 40, 50), affine))


def test_the_place_of_a_tilted_series_that_is_not_here_any_more_is_known(tmp_path: Path) -> None:
    write_tilted(tmp_path, (0.0, 0.5, 2.0))
    series = read_series(tmp_path)
    known = SlicePlaces(series.shape, RAS_LPS @ series.affine_lps)
    assert known.is_tilted
    assert known.grid.same_as(read_grid(Source(tmp_path)))


def test_slices_that_do_not_follow_one_line_are_refused(tmp_path: Path) -> None:
    write_series(tmp_path, modality="CT", description="", study="1.2", step=(0.0, 0.5, 2.0), slices=9)
    for number in (3, 4, 5):
        header = pydicom.dcmread(tmp_path / f"{number}.dcm")
        header.ImagePositionPatient[1] = float(header.ImagePositionPatient[1]) + 4.0
        pydicom.dcmwrite(tmp_path / f"{number}.dcm", header)
    with pytest.raises(CaseError, match=r"along one line; one lies 4\.0 mm beside"):
        read_series(tmp_path)


def test_a_way_along_the_slices_rather_than_through_them_is_refused(tmp_path: Path) -> None:
    write_series(tmp_path, modality="CT", description="", study="1.2", step=(0.0, 3.0, 2.0))
    with pytest.raises(CaseError, match=r"at most 45 degrees; they are tilted by 56\.3"):
        read_series(tmp_path)


def test_a_gap_in_a_tilted_series_is_refused(tmp_path: Path) -> None:
    write_series(tmp_path, modality="CT", description="", study="1.2", step=(0.0, 0.5, 2.0), slices=9, skip=4)
    with pytest.raises(CaseError, match="evenly spaced"):
        read_series(tmp_path)
