"""What a folder of DICOM files holds: series of images, and other files with the reason they are no slice."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from filecmp import cmp
from functools import lru_cache
from pathlib import Path

from pydicom.dataset import FileDataset
from pydicom.uid import UID

from lib.cases.case import CaseError, Source
from lib.cases.formats import acquisition, contrast, functional_groups, slice_header, suv
from lib.cases.formats.dicom_file import NoDicom, read_header
from lib.cases.unexpected_errors import as_case_error
from lib.runtime.errors import UserError

HEADER_TAGS = tuple(
    dict.fromkeys((*slice_header.TAGS, *contrast.TAGS, *acquisition.TAGS, *suv.TAGS, *functional_groups.TAGS))
)
DICOM_SUFFIXES = (".dcm", ".dicom", ".ima")  # a file with such a suffix must be DICOM
_UID_LENGTH = 64
_OTHER_KINDS = {  # Modality, or SOP class, of objects that are no images
    "SEG": "a segmentation",
    "RTSTRUCT": "contours of radiotherapy",
    "RTDOSE": "a dose of radiotherapy",
    "RTPLAN": "a plan of radiotherapy",
    "SR": "a report",
    "PR": "a presentation state",
    "KO": "a list of key images",
    "REG": "a registration",
    "DOC": "a document",
    "1.2.840.10008.1.3.10": "the index of a medium",
    "1.2.840.10008.5.1.4.1.1.30": "a parametric map",
    "1.2.840.10008.5.1.4.1.1.66": "raw data",
    "1.2.840.10008.5.1.4.1.1.66.4": "a segmentation",
    "1.2.840.10008.5.1.4.1.1.66.7": "a segmentation",
    "1.2.840.10008.5.1.4.1.1.104.1": "a document",
    "1.2.840.10008.5.1.4.1.1.481.2": "a dose of radiotherapy",
}
_WITH_ROWS = {"SEG", "RTDOSE", *(key for key in _OTHER_KINDS if key[0].isdigit())}  # yet no images
_TEXT_BYTES = 512  # looked at
Headers = tuple[tuple[Path, FileDataset], ...]


@dataclass(frozen=True)
class Listing:
    """Files of a folder.

    Attributes:
        series: Headers of every DICOM image, by SeriesInstanceUID.
        others: Files that are no slice, and a sentence on each.
    """

    series: dict[str, Headers]
    others: tuple[tuple[Path, str], ...]


def list_series(folder: Path) -> dict[str, Headers]:
    """Headers of every DICOM image in a folder, by SeriesInstanceUID; see `list_folder`."""
    return list_folder(folder).series


def list_folder(folder: Path) -> Listing:
    """List the files in a folder, not below it.

    Raises:
        CaseError: If the folder or a DICOM file in it cannot be read; the file may be a slice of any series.
    """
    with as_case_error(str(folder)):
        return _list(folder, Source(folder).stamp())


@lru_cache(maxsize=64)
def _list(folder: Path, _stamp: str) -> Listing:
    images: dict[str, list[tuple[Path, FileDataset]]] = defaultdict(list)
    others: list[tuple[Path, str]] = []
    foreign: list[tuple[Path, NoDicom]] = []
    for path in _files(folder):
        if path.name.upper() == "DICOMDIR":
            others.append((path, "it is the index of a medium; the files themselves are read."))
            continue
        try:
            with as_case_error(path.name):
                header = read_header(path, tags=HEADER_TAGS)
                if kind := _other_kind(header, path):
                    others.append((path, f"it is no image but {kind}; only images are read from folders."))
                else:
                    images[_uid_of(header, path)].append((path, header))
        except NoDicom as err:
            foreign.append((path, err))
        except UserError as err:
            raise _damaged(folder, err) from err
    kinds = {_name_kind(path) for several in images.values() for path, _ in several}
    for path, error in foreign:
        if _must_be_dicom(path, kinds):
            raise _damaged(folder, error) from error
        others.append((path, "it is no DICOM file."))
    series = {}
    for uid, several in images.items():
        copies = dict(_copies(several))
        series[uid] = tuple(found for found in several if found[0] not in copies)
        others += copies.items()
    return Listing(series, tuple(others))


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.iterdir()) if path.is_file() and not path.name.startswith("."))


def _other_kind(header: FileDataset, path: Path) -> str:
    """Kind of an object that is no image, in words; empty for an image."""
    kind = UID(str(header.get("SOPClassUID") or header.file_meta.get("MediaStorageSOPClassUID") or ""))
    modality = str(header.get("Modality") or "")
    is_image = "Rows" in header or kind.name.endswith("Image Storage")
    if is_image and kind not in _WITH_ROWS and modality not in _WITH_ROWS:
        return ""
    if not kind and not modality:
        raise CaseError(f"{path.name} must say what it is; its header has no SOPClassUID and no Rows.")
    return _OTHER_KINDS.get(kind) or _OTHER_KINDS.get(modality) or f"an object of the kind {kind.name}"


def _uid_of(header: FileDataset, path: Path) -> str:
    value = header.get("SeriesInstanceUID")
    uid = value.strip() if isinstance(value, str) else ""
    if not (0 < len(uid) <= _UID_LENGTH and uid.isprintable() and " " not in uid):
        raise CaseError(f"{path.name} must name its series; got {str(value)[:_UID_LENGTH]!r}.")
    return uid


def _damaged(folder: Path, err: UserError) -> CaseError:
    return CaseError(
        f"every DICOM file in {folder} must be readable, as it may be a slice of any series there. {err} "
        "Copy or export the folder again."
    )


def _name_kind(path: Path) -> str:
    """Suffix of a file; empty if it is only the last number of a UID."""
    suffix = path.suffix.lower()
    return "" if suffix[1:].isdigit() else suffix


def _must_be_dicom(path: Path, kinds: set[str]) -> bool:
    """Whether a file that is no DICOM file may be a damaged slice, as it is named like the slices."""
    if path.suffix.lower() in DICOM_SUFFIXES:
        return True
    return _name_kind(path) in kinds and not _is_text(path)


def _is_text(path: Path) -> bool:
    with path.open("rb") as stream:
        begin = stream.read(_TEXT_BYTES)
    return bool(begin) and all(byte >= 0x20 or byte in b"\t\r\n\f" for byte in begin)


def _copies(several: list[tuple[Path, FileDataset]]) -> Iterator[tuple[Path, str]]:
    """Files that repeat another file of the series byte for byte."""
    first: dict[str, Path] = {}
    for path, header in several:
        instance = str(header.get("SOPInstanceUID") or "")
        if not instance or first.setdefault(instance, path) == path:
            continue
        if cmp(first[instance], path, shallow=False):
            yield path, f"it is a copy of {first[instance].name}, which is read."
