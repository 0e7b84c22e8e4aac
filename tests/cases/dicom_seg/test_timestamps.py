from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from pydicom.dataset import Dataset

from lib.cases.dicom_seg.timestamps import read_moment, write_moment

NOON = datetime(2025, 3, 4, 12, 0, 0, 345, tzinfo=UTC)


@pytest.fixture
def _in_tokyo(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def stored(**tags: str) -> Dataset:
    dataset = Dataset()
    dataset.ContentDate, dataset.ContentTime = "20250304", "210000.000345"
    for name, value in tags.items():
        setattr(dataset, name, value)
    return dataset


@pytest.mark.usefixtures("_in_tokyo")
@pytest.mark.parametrize(
    "tags",
    [
        {},  # Slicer writes the local time
        {"TimezoneOffsetFromUTC": "+0900"},
        {"TimezoneOffsetFromUTC": "-0500", "ContentTime": "070000.000345"},
        {
            "Manufacturer": "Unspecified",
            "ManufacturerModelName": "Unspecified",
            "ContentTime": "120000.000345",
        },
    ],
)
def test_the_same_moment_is_told_however_a_viewer_keeps_its_time(tags: dict[str, str]) -> None:
    assert read_moment(stored(**tags)) == NOON


@pytest.mark.usefixtures("_in_tokyo")
@pytest.mark.parametrize("source", [{}, {"TimezoneOffsetFromUTC": "-0500"}])
def test_what_is_written_is_read_back_and_has_the_zone_of_the_images(source: dict[str, str]) -> None:
    dataset = Dataset()
    write_moment(dataset, NOON, source=stored(**source))
    assert read_moment(dataset) == NOON
    assert dataset.TimezoneOffsetFromUTC == source.get("TimezoneOffsetFromUTC", "+0900")


@pytest.mark.parametrize(
    "tags", [{"ContentDate": ""}, {"ContentDate": "4 March"}, {"TimezoneOffsetFromUTC": "somewhere"}]
)
@pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom says so too
def test_an_unreadable_date_is_none(tags: dict[str, str]) -> None:
    assert read_moment(stored(**tags)) is None
