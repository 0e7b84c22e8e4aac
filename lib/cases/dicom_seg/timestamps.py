"""When a SEG was made, comparable between writers that keep different time zones."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo

from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset

AHEAD = timedelta(days=1)  # of the time here; clocks and time zones differ by less
_DCMJS = "Unspecified"  # manufacturer in what OHIF stores, whose dates are UTC though no header says so


def read_moment(dataset: Dataset) -> datetime | None:
    """When the content was made, in UTC; None where the header has no valid date and time.

    Without an offset in the header it was the local time here, but for OHIF, which writes UTC. A time more
    than a day ahead of now counts as unknown: what is dated 2099 must not make all that comes later older.
    """
    date = str(dataset.get("ContentDate") or "")
    time, _, fraction = str(dataset.get("ContentTime") or "").partition(".")
    try:
        moment = datetime.strptime(f"{date}{time:0<6}.{fraction or 0}", "%Y%m%d%H%M%S.%f")
        moment = moment.replace(tzinfo=_zone_of(dataset)).astimezone(UTC)
    except (ValueError, OverflowError):  # OverflowError: of the year 1 or 9999
        return None
    return moment if moment <= datetime.now(UTC) + AHEAD else None


def write_moment(dataset: Dataset, written: datetime, *, source: Dataset) -> None:
    """Date and time of content, series and instance, with the offset that dates of the source have.

    Args:
        dataset: Changed in place.
        written: A naive one is the local time here.
        source: Header of the images, whose study date and time the dataset repeats.
    """
    local = written.astimezone(_zone_of(source))
    for event in ("Content", "Series", "InstanceCreation"):
        dataset[f"{event}Date"] = DataElement(f"{event}Date", "DA", f"{local:%Y%m%d}")
        dataset[f"{event}Time"] = DataElement(f"{event}Time", "TM", f"{local:%H%M%S.%f}")
    for equipment in list(dataset.get("ContributingEquipmentSequence", ()))[-1:]:  # highdicom's own entry
        equipment.ContributionDateTime = f"{local:%Y%m%d%H%M%S.%f%z}"
    dataset.TimezoneOffsetFromUTC = f"{local:%z}"


def _zone_of(dataset: Dataset) -> tzinfo | None:
    """Time zone of a header's dates; None for the local one."""
    if offset := str(dataset.get("TimezoneOffsetFromUTC") or "").strip():
        return datetime.strptime(offset, "%z").tzinfo
    return UTC if dataset.get("Manufacturer") == dataset.get("ManufacturerModelName") == _DCMJS else None
