"""Division of the clinic's disk budget among files that can be made or fetched again."""

from __future__ import annotations

from lib.pipeline.settings import AppSettings

SHARES = {
    "dicom": 0.5,  # series fetched from a PACS
    "prepared": 0.2,  # cases as arrays
    "images": 0.2,  # files for viewers, of DICOM series and 4-D files
    "viewed": 0.04,  # volumes of the page's viewer
    "segmentations": 0.02,
    "explanations": 0.02,
    "strips": 0.01,  # pictures of the page
    "checkerboards": 0.005,
    "pictures": 0.005,
}


def disk_bytes(settings: AppSettings, what: str) -> int:
    """Maximum bytes on disk for one kind of file.

    Args:
        settings: Settings with `disk_gb`, the budget of all kinds together.
        what: Kind of file, a key of `SHARES`.
    """
    return int(settings.disk_gb * 1e9 * SHARES[what])
