"""What goes wrong between a PACS and us: a sentence that names the series, and a next try that succeeds."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.uid import generate_uid

from lib.cases.case import CaseError
from lib.cases.dicomweb import client as pacs_module
from lib.cases.dicomweb.client import PacsError, pacs_at
from lib.cases.dicomweb.mirror import Mirror, RemoteSeries
from lib.cases.dicomweb.studies import find_studies
from lib.cases.discovery.series_rules import LEFT_OUT, RULE_PRESETS, SeriesRule, SeriesRules
from lib.cases.formats.image import MAX_VOXELS, read_grid, read_volume
from tests.support.images import write_series
from tests.support.orthanc import Orthanc, orthanc, skip_without_orthanc
from tests.support.pacs_proxy import (
    Faulty,
    Proxy,
    Send,
    cut,
    cut_in_silence,
    fail,
    is_instance,
    listing,
    one_row,
    proxy_of,
    send,
    stall,
    without_sizes,
)

SERIES = Path(__file__).parents[3] / "samples" / "dicom" / "STS_025" / "MR_T1"
UID = str(pydicom.dcmread(SERIES / "000000.dcm", stop_before_pixels=True).SeriesInstanceUID)
RULES = RULE_PRESETS["pet_ct_mr"]
REPORT, PDF = "1.2.840.10008.5.1.4.1.1.88.11", "1.2.840.10008.5.1.4.1.1.104.1"


@pytest.fixture(scope="module")
def server() -> Iterator[Orthanc]:
    skip_without_orthanc()
    with orthanc(SERIES) as running:
        yield running


@pytest.fixture(autouse=True)
def _quick(quick_retries: None) -> None:
    """Every fault is met without waiting."""


@pytest.fixture
def proxy(server: Orthanc) -> Iterator[Proxy]:
    with proxy_of(server) as running:
        yield running


def elsewhere(handler: Faulty, body: bytes) -> None:
    """A listing whose series would lie outside the folder that they are kept in."""
    send(handler, body.replace(UID.encode(), b"../../outside"))


def source_of(url: str, uid: str, folder: Path, rules: SeriesRules = RULES) -> RemoteSeries:
    """A series as a server that starts now lists it."""
    case, modality = find_studies(Mirror(url, folder / "dicom", 10**9), rules).resolve(uid)
    source = case.modalities[modality or ""]
    assert isinstance(source, RemoteSeries)
    return source


def part_of(source: RemoteSeries) -> Path:
    return source.path.with_name(f".{source.path.name}.part")


def write_tiny(folder: Path, **tags: Any) -> tuple[str, list[Path]]:
    """A series of 5 x 6 pixels in a study of its own."""
    uid = write_series(
        folder, **{"modality": "MR", "description": "T1 tiny", "study": generate_uid(), "slices": 7, **tags}
    )
    return tags.get("SeriesInstanceUID", uid), sorted(folder.glob("*.dcm"))


def test_a_pacs_that_stops_in_mid_download_is_asked_only_for_the_rest_when_it_is_back(
    tmp_path: Path,
) -> None:
    skip_without_orthanc()
    with orthanc(SERIES) as stopping, proxy_of(stopping) as proxy:
        source, number = source_of(proxy.url, UID, tmp_path), itertools.count(1)

        def stop_after_ten(path: str) -> None:
            if is_instance(path) and next(number) == 10:
                stopping.stop()

        proxy.spoil = stop_after_ten
        with pytest.raises(PacsError, match=f"series {UID} .*; no connection. Is it up"):
            read_grid(source)
        kept = {file.stem for file in part_of(source).iterdir()}
        assert 0 < len(kept) < 25
        assert not source.path.exists()
        stopping.start()
        proxy.asked.clear()
        assert read_grid(source).shape[0] == 25
        assert len(proxy.fetched) == 25 - len(kept)
        assert not kept & set(proxy.fetched)


def test_a_few_errors_of_the_pacs_are_waited_out(proxy: Proxy, tmp_path: Path) -> None:
    source, number = source_of(proxy.url, UID, tmp_path), itertools.count(1)
    proxy.spoil = lambda path: fail if is_instance(path) and next(number) <= 3 else None
    assert read_grid(source).shape[0] == 25
    assert len(proxy.fetched) == 25 + 3


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        (fail, "it answered 500"),
        (cut, "the connection ended in mid-answer"),
        (cut_in_silence, r"must be whole; its instance [\d.]+ has [\d,]+ bytes of pixels of 8,250"),
        (stall, "no answer in time"),
    ],
)
def test_answers_that_fail_end_in_a_sentence_and_the_next_try_succeeds(
    proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Send, sentence: str
) -> None:
    source = source_of(proxy.url, UID, tmp_path)
    good = set()

    def spoil(path: str) -> Send | None:
        good.update(proxy.fetched[:5])
        return fault if is_instance(path) and path.rpartition("/")[2] not in good else None

    proxy.spoil = spoil
    with monkeypatch.context() as impatient:
        impatient.setattr(pacs_module, "TIMEOUT_S", (5.0, 0.5))
        with pytest.raises(PacsError, match=f"series {UID} .*{sentence}"):
            read_volume(source)
    assert len(set(proxy.fetched)) < 25  # it does not try each of a thousand slices before it says so
    proxy.spoil = lambda path: None
    assert read_volume(source).array.shape[0] == 25


def test_however_many_series_are_fetched_a_pacs_is_asked_for_a_few_instances_at_a_time(
    proxy: Proxy, tmp_path: Path
) -> None:
    series = source_of(proxy.url, UID, tmp_path).found
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda name: pacs_at(proxy.url).fetch(series, tmp_path / name), "abcd"))
    assert len(proxy.fetched) == 4 * 25
    assert 1 < proxy.most_at_once <= pacs_module.PARALLEL


def test_a_listing_that_fails_names_the_series_too(proxy: Proxy, tmp_path: Path) -> None:
    source = source_of(proxy.url, UID, tmp_path)
    proxy.spoil = lambda path: fail
    with pytest.raises(PacsError, match=f"the instances of series {UID} .*it answered 500"):
        read_grid(source)
    proxy.spoil = lambda path: None
    assert read_grid(source).shape[0] == 25


def test_a_uid_that_is_a_path_is_left_out_and_hides_no_other(
    server: Orthanc, proxy: Proxy, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    uid, files = write_tiny(tmp_path / "slices")
    server.upload(files)
    proxy.spoil = lambda path: elsewhere
    found = {series.uid for series in pacs_at(proxy.url).series(("MR",))}
    assert uid in found
    assert UID not in found
    assert "numbers between dots; it sent '../../outside'" in caplog.text


def test_a_pacs_that_lists_a_row_at_a_time_is_listed_to_the_end(
    server: Orthanc, proxy: Proxy, tmp_path: Path
) -> None:
    for name in ("a", "b"):
        server.upload(write_tiny(tmp_path / name)[1])
    listed = {series.uid for series in pacs_at(proxy.url).series(("MR",))}
    proxy.spoil = lambda path: one_row
    assert len(listed) >= 3
    assert {series.uid for series in pacs_at(proxy.url).series(("MR",))} == listed


def test_a_missing_slice_is_named_with_its_gap_and_fetched_once_it_was_sent(
    server: Orthanc, proxy: Proxy, tmp_path: Path
) -> None:
    uid, files = write_tiny(tmp_path / "slices")
    server.upload([file for file in files if file.name != "3.dcm"])
    source = source_of(proxy.url, uid, tmp_path)
    with pytest.raises(
        CaseError, match=rf"series {uid} \(MR 'T1 tiny'\).* there are 4.00 mm. A slice is mis"
    ):
        read_grid(source)
    server.upload([tmp_path / "slices" / "3.dcm"])
    proxy.asked.clear()
    assert read_grid(source).shape[0] == 7
    assert len(proxy.fetched) == 1


def test_slices_that_came_after_a_series_was_fetched_are_fetched_at_the_next_start(
    server: Orthanc, proxy: Proxy, tmp_path: Path
) -> None:
    uid, files = write_tiny(tmp_path / "slices")
    server.upload(files[:5])
    first = source_of(proxy.url, uid, tmp_path)
    assert read_grid(first).shape[0] == 5
    server.upload(files[5:])
    assert read_grid(first).shape[0] == 5  # as listed when this server started
    proxy.asked.clear()
    second = source_of(proxy.url, uid, tmp_path)
    assert second.stamp() != first.stamp()
    assert read_grid(second).shape[0] == 7
    assert len(proxy.fetched) == 2


def test_slices_that_were_deleted_in_the_pacs_are_gone_at_the_next_start(
    server: Orthanc, proxy: Proxy, tmp_path: Path
) -> None:
    uid, files = write_tiny(tmp_path / "slices")
    server.upload(files)
    first = source_of(proxy.url, uid, tmp_path)
    assert read_grid(first).shape[0] == 7
    server.delete(server.instance_of(files[-1]))
    assert read_grid(first).shape[0] == 7  # as listed when this server started
    proxy.asked.clear()
    second = source_of(proxy.url, uid, tmp_path)
    assert second.stamp() != first.stamp()
    assert read_grid(second).shape[0] == 6
    assert not proxy.fetched


def test_a_pacs_that_counts_too_few_slices_is_asked_once_which_it_has(
    server: Orthanc, proxy: Proxy, tmp_path: Path
) -> None:
    uid, files = write_tiny(tmp_path / "slices")
    server.upload(files[:5])
    source = source_of(proxy.url, uid, tmp_path)
    server.upload(files[5:])
    assert read_grid(source).shape[0] == 7
    proxy.asked.clear()
    for _ in range(2):
        assert read_grid(source).shape[0] == 7
    assert not proxy.asked


def test_two_orientations_in_a_series_are_named_and_read_once_the_second_is_gone(
    server: Orthanc, tmp_path: Path
) -> None:
    study = generate_uid()
    uid, axial = write_tiny(tmp_path / "axial", study=study)
    sagittal = [0.0, 1.0, 0.0, 0.0, 0.0, -1.0]
    _, other = write_tiny(
        tmp_path / "other", study=study, slices=3, SeriesInstanceUID=uid, ImageOrientationPatient=sagittal
    )
    server.upload([*axial, *other])
    with pytest.raises(CaseError, match=rf"the other slices of series {uid} \(MR 'T1 tiny'\).*localizer"):
        read_grid(source_of(server.dicomweb, uid, tmp_path))
    for file in other:
        server.delete(server.instance_of(file))
    assert read_grid(source_of(server.dicomweb, uid, tmp_path)).shape[0] == 7


@pytest.mark.parametrize("kind", [REPORT, PDF])
def test_a_series_without_images_is_named_and_left_out_by_a_rule(
    server: Orthanc, tmp_path: Path, kind: str
) -> None:
    study = generate_uid()
    image, files = write_tiny(tmp_path / "ct", modality="CT", description="", study=study)
    uid, documents = write_tiny(tmp_path / "report", description="T1 report", study=study)
    for file in documents:
        document = pydicom.dcmread(file)
        del document.Rows, document.Columns, document.PixelData
        document.SOPClassUID = document.file_meta.MediaStorageSOPClassUID = kind
        document.save_as(file)
    server.upload([*files, *documents])
    with pytest.raises(CaseError, match=rf"series {uid} \(MR 'T1 report'\) .*must hold images.*series_rules"):
        read_grid(source_of(server.dicomweb, uid, tmp_path))
    assert read_grid(source_of(server.dicomweb, image, tmp_path)).shape[0] == 7
    rules = SeriesRules("site", (SeriesRule("MR", "report", LEFT_OUT), *RULES.rules))
    case, _ = find_studies(Mirror(server.dicomweb, tmp_path, 10**9), rules).resolve(image)
    assert list(case.modalities) == ["CT"]


def test_images_without_pixels_are_named_and_read_once_they_were_sent_whole(
    server: Orthanc, tmp_path: Path
) -> None:
    uid, files = write_tiny(tmp_path / "slices")
    (tmp_path / "bare").mkdir()
    for file in files:
        bare = pydicom.dcmread(file)
        del bare.PixelData
        bare.save_as(tmp_path / "bare" / file.name)
    server.upload(sorted((tmp_path / "bare").iterdir()))
    source = source_of(server.dicomweb, uid, tmp_path)
    with pytest.raises(PacsError, match=rf"series {uid} \(MR 'T1 tiny'\).* has 0 bytes of pixels of 60"):
        read_grid(source)
    replace(server, files)
    assert read_volume(source).array.shape == (7, 5, 6)


@pytest.mark.parametrize("claim", [{"Rows": 65535, "Columns": 65535}, {"NumberOfFrames": 300_000_000}])
def test_headers_that_claim_gigabytes_are_refused_before_anything_is_fetched(
    server: Orthanc, proxy: Proxy, tmp_path: Path, claim: dict[str, int]
) -> None:
    uid, files = write_tiny(tmp_path / "slices")
    claim_more(files, tmp_path / "huge", claim)
    server.upload(sorted((tmp_path / "huge").iterdir()))
    source = source_of(proxy.url, uid, tmp_path)
    with pytest.raises(
        CaseError, match=rf"series {uid} .*at most {MAX_VOXELS:,} voxels; its headers say [\d,]+"
    ):
        read_grid(source)
    assert not proxy.fetched
    replace(server, files)
    assert read_volume(source).array.shape == (7, 5, 6)


@pytest.mark.parametrize(
    ("claim", "sentence"),
    [
        ({"Rows": 65535, "Columns": 65535}, "has 60 bytes of pixels of 8,589,672,450"),
        ({"NumberOfFrames": 300_000_000}, "has 60 bytes of pixels of 18,000,000,000"),
    ],
)
def test_such_headers_are_refused_from_a_pacs_that_lists_no_sizes(
    server: Orthanc, proxy: Proxy, tmp_path: Path, claim: dict[str, int], sentence: str
) -> None:
    uid, files = write_tiny(tmp_path / "slices")
    claim_more(files, tmp_path / "huge", claim)
    server.upload(sorted((tmp_path / "huge").iterdir()))
    source = source_of(proxy.url, uid, tmp_path)
    proxy.spoil = lambda path: without_sizes if "/instances?" in path else None
    with pytest.raises(PacsError, match=f"series {uid} .*{sentence}"):
        read_volume(source)
    replace(server, files)
    assert read_volume(source).array.shape == (7, 5, 6)


def claim_more(files: list[Path], folder: Path, claim: dict[str, int]) -> None:
    folder.mkdir()
    for file in files:
        huge = pydicom.dcmread(file)
        for name, value in claim.items():
            setattr(huge, name, value)
        huge.save_as(folder / file.name)


def replace(server: Orthanc, files: list[Path]) -> None:
    """Send instances in place of others of the same UIDs."""
    for file in files:
        server.delete(server.instance_of(file))
    server.upload(files)


def test_a_listing_row_that_is_damaged_hides_no_other_whatever_it_holds() -> None:
    good = {
        "0020000D": {"Value": ["1.2"]},
        "0020000E": {"Value": ["1.2.3"]},
        "00080060": {"Value": ["MR"]},
    }
    bad = [
        None,
        7,
        "text",
        [],
        {},
        {**good, "0020000E": None},
        {**good, "0020000E": {"Value": []}},
        {**good, "00201209": {"Value": ["many"]}},
        {**good, "0008103E": [1]},
    ]
    with listing([bad, [*bad, good], []]) as url:
        assert [series.uid for series in pacs_module.Pacs(url).series(("MR",))] == ["1.2.3"]


def test_the_frames_of_an_enhanced_object_count_as_slices(tmp_path: Path) -> None:
    def row(uid: str, instances: int) -> dict[str, object]:
        return {
            "0020000D": {"Value": ["1.2"]},
            "0020000E": {"Value": [uid]},
            "00080060": {"Value": ["MR"]},
            "0008103E": {"Value": [f"T1 of {instances} files"]},
            "00201209": {"Value": [instances]},
        }

    rules = SeriesRules("mine", (SeriesRule("MR", "t1", "T1"),))
    frames = [{"00280008": {"Value": [160]}}]
    with listing([[row("1.2.3", 3), row("1.2.4", 1)], [], frames]) as url:
        pool = find_studies(Mirror(url, tmp_path / "dicom", 10**9), rules)
    assert [source.series for source in pool.cases[0].modalities.values()] == ["1.2.4"]
    assert "'T1 of 1 files' is taken: it has more slices" in pool.skipped[0].reason
