"""Time of a SEG, comparable between writers in different time zones."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo

from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset

MAX_AHEAD = timedelta(days=1)  # of the current time; clocks and time zones differ by less
_DCMJS = "Unspecified"  # manufacturer in SEGs of OHIF, whose dates are UTC although no header says so


def read_moment(dataset: Dataset) -> datetime | None:
    """Time of the content in UTC; None if the header has no valid date and time.

    Without an offset in the header, the time is local time on this machine, except in SEGs of OHIF, which
    writes UTC. A time more than a day in the future counts as unknown: a SEG dated 2099 would otherwise
    count as newer than every later one.
    """
    date = str(dataset.get("ContentDate") or "")
    time, _, fraction = str(dataset.get("ContentTime") or "").partition(".")
    try:
        moment = datetime.strptime(f"{date}{time:0<6}.{fraction or 0}", "%Y%m%d%H%M%S.%f")
        moment = moment.replace(tzinfo=_zone_of(dataset)).astimezone(UTC)
    except (ValueError, OverflowError):  # OverflowError: years 1 and 9999
        return None
    return moment if moment <= datetime.now(UTC) + MAX_AHEAD else None


def write_moment(dataset: Dataset, written: datetime, *, source: Dataset) -> None:
    """Write date and time of content, series and instance, in the time zone of the source images.

    Args:
        dataset: SEG, changed in place.
        written: Time to write; a naive time is local time on this machine.
        source: Header of the images, whose study date and time the SEG repeats.
    """
    local = written.astimezone(_zone_of(source))
    for event in ("Content", "Series", "InstanceCreation"):
        dataset[f"{event}Date"] = DataElement(f"{event}Date", "DA", f"{local:%Y%m%d}")
        dataset[f"{event}Time"] = DataElement(f"{event}Time", "TM", f"{local:%H%M%S.%f}")
    for equipment in list(dataset.get("ContributingEquipmentSequence", ()))[-1:]:  # highdicom's own entry
        equipment.ContributionDateTime = f"{local:%Y%m%d%H%M%S.%f%z}"
    dataset.TimezoneOffsetFromUTC = f"{local:%z}"


def _zone_of(dataset: Dataset) -> tzinfo | None:
    """Time zone of the dates in a header; None means local time."""
    if offset := str(dataset.get("TimezoneOffsetFromUTC") or "").strip():
        return datetime.strptime(offset, "%z").tzinfo
    return UTC if dataset.get("Manufacturer") == dataset.get("ManufacturerModelName") == _DCMJS else None
