"""A reader in OHIF: the viewer of the installed wheel in Chromium, on a live server and a real Orthanc."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
import SimpleITK as sitk
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Page

from lib.cases.case import Case
from lib.cases.formats.image import read_places
from lib.pipeline.settings import read_settings
from lib.pipeline.workspace import Workspace
from tests.support.chromium import Window, chromium, skip_without_chromium
from tests.support.images import tilt_series
from tests.support.networks import outline_uptake
from tests.support.orthanc import orthanc, skip_without_orthanc
from tests.support.server import ROOT, serving, slicer_client, wait_for_plan, wait_until
from tests.support.trees import copied

pytestmark = [pytest.mark.e2e, pytest.mark.slow]
SAMPLES = ROOT / "samples" / "dicom"
TILTED = "STS_008"  # whose CT gets the slices of a tilted gantry
SCREENSHOTS = ROOT / "build" / "screenshots"
FONTS = {"fonts.googleapis.com", "fonts.gstatic.com"}  # asked for by OHIF; it does without them
UPSTREAM = {  # answers that MONAI Label and its build of OHIF come with
    (404, "/train/"),  # nothing is being trained
    (404, "/assets/android-chrome-144x144.png"),  # an icon, asked for outside /ohif
}
FORM = {
    "Modality": "Modality",
    "Study Date": "StudyDate",
    "Study Time": "StudyTime",
    "Patient ID": "PatientID",
    "Study Instance UID": "StudyInstanceUID",
    "Series Instance UID": "SeriesInstanceUID",
}

# Of the viewer's page: `services` is OHIF's, `cornerstone` what it draws with; '1' is the panel's only
# segmentation. Positions are DICOM's, in mm.
SHOWN = """series => {
    const { viewportGridService, displaySetService, cornerstoneViewportService } = window.services ?? {};
    const { viewports, activeViewportId } = viewportGridService?.getState() ?? {};
    const shown = displaySetService?.getDisplaySetByUID(
        viewports?.get(activeViewportId)?.displaySetInstanceUIDs[0]);
    const id = cornerstoneViewportService?.getCornerstoneViewport(activeViewportId)?.getVolumeId?.();
    return shown && id?.endsWith(shown.displaySetInstanceUID)
        && cornerstone.cache.getVolume(id)?.loadStatus.loaded
        && (series ?? shown.SeriesInstanceUID) === shown.SeriesInstanceUID && shown.StudyInstanceUID;
}"""
LABEL = """() => {
    const id = services.segmentationService.getSegmentation('1')?.representationData.Labelmap.volumeId;
    const volume = id && cornerstone.cache.getVolume(id);
    if (!volume) return null;
    const [width, height] = volume.dimensions, sum = [0, 0, 0];
    let voxels = 0;
    volume.voxelManager.getCompleteScalarDataArray().forEach((value, at) => {
        if (!value) return;
        voxels += 1;
        sum[0] += at % width;
        sum[1] += Math.floor(at / width) % height;
        sum[2] += Math.floor(at / (width * height));
    });
    const index = sum.map(each => each / voxels), centre = volume.imageData.indexToWorld(index);
    return { voxels, size: [...volume.dimensions], index, centre: [...centre] };
}"""
JUMP = """position => { for (const viewport of services.cornerstoneViewportService.getRenderingEngine()
    .getViewports()) { viewport.jumpToWorld(position); viewport.render(); } }"""
AXIAL = """positions => {
    const viewport = services.cornerstoneViewportService.getCornerstoneViewport('mpr-axial');
    const { x, y, width, height } = viewport.canvas.getBoundingClientRect();
    return { box: { x, y, width, height }, points: positions.map(each => [...viewport.worldToCanvas(each)]) };
}"""
# Of the first segmentation: whether the images that it lies on are loaded; its voxels in each slice with any.
READY = """() => services.segmentationService.getSegmentations()[0]?.representationData.Labelmap
    .referencedImageIds.every(id => cornerstone.cache.getImage(id))"""
NEXT_SLICE = """() => {
    const { cornerstoneViewportService, viewportGridService } = services;
    const id = viewportGridService.getState().activeViewportId;
    return cornerstoneViewportService.getCornerstoneViewport(id).getCurrentImageIdIndex() === 1;
}"""
DRAWN = """() => services.segmentationService.getSegmentations()[0]?.representationData.Labelmap.imageIds
    .map(id => cornerstone.cache.getImage(id))
    .map(image => ({
        corner: [...cornerstone.metaData.get('instance', image.referencedImageId).ImagePositionPatient],
        voxels: Array.from(image.voxelManager.getScalarData()).flatMap((value, at) => value ? [at] : []),
    }))
    .filter(slice => slice.voxels.length)"""


@dataclass
class Ohif:
    """The viewer and what stands behind it."""

    window: Window
    address: str
    workspace: Workspace

    @property
    def page(self) -> Page:
        return self.window.page

    def case(self, patient: str) -> Case:
        return next(case for case in self.workspace.pool.cases if case.patient == patient)

    def open_study_list(self) -> None:
        self.page.goto(f"{self.address}/ohif/")
        for case in self.workspace.pool.cases:
            self.page.get_by_text(case.patient).first.wait_for()

    def open_study(self, case: Case) -> None:
        """By its address, as a link from elsewhere does."""
        self.page.goto(f"{self.address}/ohif/monai-label?StudyInstanceUIDs={case.id}")
        self.wait_for_series()

    def wait_for_series(self, series: str | None = None) -> str:
        """Until a series, any by default, is loaded in the active viewport; the study that it is of."""
        self.page.locator("[data-viewport-uid] canvas").first.wait_for()
        return str(self.page.wait_for_function(SHOWN, arg=series).json_value())

    def connect(self) -> None:
        panel = self.page.locator(".monaiLabelPanel")
        panel.get_by_text("MDAL-CIML").wait_for()  # it connects by itself
        assert panel.locator("#monailabelServerURL").input_value() == f"{self.address}/"
        self.page.wait_for_function(LABEL)

    def show(self, case: Case, modality: str) -> None:
        """Put a series into the active viewport, by two clicks on its thumbnail."""
        self.page.get_by_text(f"{case.patient}_{modality}_image").first.dblclick()
        self.wait_for_series(case.modalities[modality].series)

    def segment(self, voxels: int, size: Sequence[int]) -> str:
        """Press Run under Auto-Segmentation, wait for such a label; the series that was asked for."""
        with self.page.expect_request("**/infer/ciml?*") as asked:
            self.page.get_by_title("Run Segmentation", exact=True).click()
        same = "label?.voxels === voxels && String(label.size) === String(size)"
        wanted = {"voxels": voxels, "size": list(size)}
        self.page.wait_for_function(
            f"({{ voxels, size }}) => {{ const label = ({LABEL})(); return {same}; }}", arg=wanted
        )
        return asked.value.url.split("image=")[1].split("&")[0]

    def open_segmentation(self, case: Case) -> None:
        """OHIF's own mode for outlining, with a new segmentation of one segment on the active viewport."""
        self.page.goto(f"{self.address}/ohif/segmentation?StudyInstanceUIDs={case.id}")
        self.page.locator("[data-viewport-uid] canvas").first.wait_for()
        self.page.get_by_text("Add Segmentation").click()
        self.page.wait_for_function(READY)

    def brush(self, *path: tuple[float, float]) -> None:
        """Draw through these positions, fractions of the first viewport."""
        box = self.page.locator("[data-viewport-uid] canvas").first.bounding_box()
        assert box is not None
        points = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in path]
        self.page.mouse.move(*points[0])
        self.page.mouse.down()
        for point in points:
            self.page.mouse.move(*point, steps=4)
        self.page.mouse.up()

    def name_segment(self, name: str) -> None:
        self.page.get_by_label("Actions").click()
        self.page.get_by_role("menuitem", name="Rename").click()
        self.page.locator("input[type=text]").last.fill(name)
        self.page.get_by_text("Save", exact=True).click()
        self.page.locator("[data-cy=data-row]").get_by_text(name, exact=True).wait_for()

    def store_segmentation(self) -> None:
        """Export DICOM SEG, under the name that it has."""
        self.page.get_by_role("combobox").locator("xpath=..").get_by_role("button").first.click()
        self.page.get_by_role("menuitem", name="Export & Download").click()
        self.page.get_by_role("menuitem", name="Export DICOM SEG").click()
        self.page.get_by_text("Enter the report name").wait_for()
        with self.page.expect_response("**/proxy/dicom/wado/studies") as answer:
            self.page.get_by_text("Save", exact=True).click()
        assert answer.value.ok
        self.page.get_by_text("Segmentation saved successfully").wait_for()

    def screenshot(self, name: str) -> None:
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=SCREENSHOTS / f"ohif_{name}.png")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ohif]:
    skip_without_orthanc()
    skip_without_chromium()
    folder = tmp_path_factory.mktemp("ohif")
    conf = {
        "work_dir": folder / "work",
        "series_rules": "pet_ct_mr",
        "device": "cpu",
        "refresh_s": 2,
        "scoring": "quick",
    }
    studies = copied(SAMPLES, folder / "studies", "STS_008", "STS_025")
    tilt_series(studies / TILTED / "CT", 15.0)
    with orthanc(studies) as pacs:
        workspace = Workspace(pacs.dicomweb, read_settings({key: str(value) for key, value in conf.items()}))
        outline_uptake(workspace)
        with (
            serving(pacs.dicomweb, conf=conf, log=folder / "log") as address,
            chromium() as window,
        ):
            ohif = Ohif(window, address, workspace)
            ohif.open_study_list()
            window.page.get_by_text("Confirm and Hide").click()
            yield ohif
            print("\nOHIF's console:", *sorted(set(window.console)), sep="\n  ")


@pytest.fixture
def ohif(running: Ohif) -> Iterator[Ohif]:
    yield running
    window = running.window
    assert window.foreign <= FONTS
    assert window.refused <= UPSTREAM
    assert not window.failures


def infer_as_slicer(address: str, series: str, folder: Path) -> sitk.Image:
    file, _ = slicer_client(address, tmpdir=str(folder)).infer("ciml", series, {})
    return sitk.ReadImage(str(file))


def centre(label: sitk.Image) -> tuple[int, NDArray[np.float64]]:
    """Voxels and their mean position, DICOM's, in mm."""
    voxels = np.argwhere(sitk.GetArrayFromImage(label) > 0)
    middle = voxels.mean(axis=0)[::-1].tolist()
    return len(voxels), np.array(label.TransformContinuousIndexToPhysicalPoint(middle))


def centre_of_slice(label: sitk.Image, at: NDArray[np.float64]) -> list[float]:
    """Mean position of the label's voxels in the slice nearest to a position."""
    number = label.TransformPhysicalPointToIndex(at.tolist())[2]
    rows, columns = np.nonzero(sitk.GetArrayViewFromImage(label)[number])
    return list(label.TransformContinuousIndexToPhysicalPoint((columns.mean(), rows.mean(), float(number))))


def settled(page: Page, box: dict[str, float]) -> NDArray[np.int16]:
    """A part of the page (height, width, RGB), once it has stopped changing."""
    before, end = b"", time.monotonic() + 120
    while (now := page.screenshot(clip=box)) != before:
        assert time.monotonic() < end, "the picture did not come to rest"
        before = now
        page.wait_for_timeout(200)
    return np.asarray(Image.open(io.BytesIO(now)).convert("RGB"), dtype=np.int16)


def test_next_sample_opens_the_study_that_the_plan_names(ohif: Ohif) -> None:
    page = ohif.page
    assert wait_for_plan(ohif.address)["state"] == "done"
    planned, other = ohif.workspace.plan.order(ohif.workspace.settings.strategy)
    page.get_by_text(ohif.workspace.pool.by_id[other].patient).first.click()
    page.get_by_text("IBSI_1").first.wait_for()
    ohif.screenshot("study_list")
    page.get_by_role("button", name="MONAI Label").click()
    ohif.wait_for_series()
    ohif.connect()
    models = (
        page.locator(".monaiLabelPanel").get_by_title("Run Segmentation", exact=True).locator("xpath=../..")
    )
    assert models.locator("option").all_inner_texts() == ["ciml "]
    ohif.screenshot("connected")

    page.get_by_text("Active Learning").click()
    with page.expect_response("**/activelearning/random") as answer:
        page.get_by_text("Next Sample").click()
    sample: dict[str, Any] = answer.value.json()
    assert sample["mdal"]["state"] == "planned"
    (reader,) = requests.get(f"{ohif.address}/mdal/api/today", timeout=60).json()["readers"]
    assert reader["annotator"].startswith("OHIF "), "a browser has a name of its own"
    assert sample["StudyInstanceUID"] == planned
    form = page.locator(".nextSampleForm tbody")
    form.wait_for()
    rows = [row.split("\t") for row in form.inner_text().splitlines()]
    assert {name: value for name, value in rows} == {name: sample[key] for name, key in FORM.items()}
    assert all(value for _, value in rows)
    link = form.get_by_role("link").get_attribute("href")
    assert requests.get(f"{link}/metadata", timeout=60).ok
    ohif.screenshot("next_sample")

    page.once("dialog", lambda question: question.accept())
    page.get_by_role("button", name="OK").click()
    page.wait_for_url(f"**/monai-label?StudyInstanceUIDs={planned}")
    assert ohif.wait_for_series() == planned


def test_a_segmentation_lies_where_the_label_is_on_whichever_series_is_shown(
    ohif: Ohif, tmp_path: Path
) -> None:
    case = ohif.case("STS_025")
    ohif.open_study(case)
    for number, modality in enumerate(("CT", "PET", "MR_T1", "CT")):
        expected = infer_as_slicer(ohif.address, case.modalities[modality].series, tmp_path)
        voxels, position = centre(expected)
        contour = sitk.ReadImage(str(SAMPLES / case.patient / f"{modality}_GTV.nii.gz"))
        assert np.linalg.norm(position - centre(contour)[1]) < 10.0  # mm: it is the tumour that takes up
        ohif.show(case, modality)
        if number == 0:
            ohif.connect()

        here = centre_of_slice(expected, position)
        beside = [here[0] + expected.GetSpacing()[0], *here[1:]]
        ohif.page.evaluate(JUMP, here)
        axial = ohif.page.evaluate(AXIAL, [here, beside])
        without = settled(ohif.page, axial["box"])
        assert ohif.segment(voxels, expected.GetSize()) == case.modalities[modality].series

        label = ohif.page.evaluate(LABEL)
        assert label["size"] == list(expected.GetSize())
        off = np.abs(label["centre"] - position)
        print(f"{modality}: {voxels} voxels, {off.max():.4f} mm off")
        assert (off < 0.1 * np.array(expected.GetSpacing())).all()

        drawn = settled(ohif.page, axial["box"])
        if number < 3:  # over the CT, the outline from the MR was there already
            ohif.screenshot(modality)
            rows, columns = np.nonzero(np.abs(drawn - without).sum(axis=2) > 30)
            (x, y), (next_x, _) = axial["points"]
            pixels = np.hypot(columns.mean() + 0.5 - x, rows.mean() + 0.5 - y)
            print(f"{modality}: overlay of {len(rows)} pixels, {pixels:.2f} off; a voxel: {next_x - x:.2f}")
            assert pixels < next_x - x


def test_a_segmentation_lies_on_the_slices_of_a_tilted_gantry(ohif: Ohif, tmp_path: Path) -> None:
    case = ohif.case(TILTED)
    series = case.modalities["CT"].series
    straight = sitk.GetArrayFromImage(infer_as_slicer(ohif.address, case.id + "_CT", tmp_path))
    places = read_places(case.modalities["CT"])
    assert places.is_tilted
    ohif.open_study(case)
    ohif.show(case, "CT")
    ohif.connect()
    expected = places.on_slices(straight)
    assert ohif.segment(int(expected.sum()), places.shape[::-1]) == series
    label = ohif.page.evaluate(LABEL)
    assert label["size"] == list(places.shape[::-1])
    np.testing.assert_allclose(label["index"], np.argwhere(expected).mean(axis=0)[::-1], atol=1e-6)
    ohif.screenshot("tilted")


def test_a_label_drawn_and_stored_in_ohif_is_the_cases_label(ohif: Ohif, tmp_path: Path) -> None:
    case = ohif.case("STS_025")
    ohif.open_segmentation(case)
    ohif.page.locator("[data-cy=Brush]").first.click()
    ohif.brush((0.4, 0.5), (0.6, 0.5), (0.6, 0.6))
    ohif.page.wait_for_function(f"() => ({DRAWN})().length === 1")
    ohif.page.mouse.wheel(0, 100)
    ohif.page.wait_for_function(NEXT_SLICE)
    ohif.brush((0.5, 0.45), (0.55, 0.45))
    ohif.page.wait_for_function(f"() => ({DRAWN})().length === 2")
    ohif.name_segment("lesion")
    slices = ohif.page.evaluate(DRAWN)
    ohif.store_segmentation()
    ohif.page.get_by_role("button", name="Yes").click()  # opens what is in the PACS now
    ohif.page.wait_for_function(
        f"slices => JSON.stringify(({DRAWN})()) === JSON.stringify(slices)", arg=slices
    )

    client = slicer_client(ohif.address)
    wait_until(lambda: client.info()["datastore"]["completed"] == 1, seconds=120, what="the label")
    ohif.screenshot("segmentation")
    answer = requests.get(
        f"{ohif.address}/datastore/label", params={"label": case.id, "tag": "final"}, timeout=60
    )
    (tmp_path / "label.nii.gz").write_bytes(answer.content)
    label = sitk.ReadImage(str(tmp_path / "label.nii.gz"))
    stored = sitk.GetArrayFromImage(label)
    drawn = np.zeros_like(stored)
    for each in slices:
        column, row, number = label.TransformPhysicalPointToIndex(each["corner"])
        assert (column, row) == (0, 0)
        drawn[number].flat[each["voxels"]] = 1
    assert len(slices) == 2
    assert np.array_equal(stored, drawn)
    print(f"drawn and stored: {np.count_nonzero(drawn)} voxels at", *centre(label))
