"""Folders of the studies and of the program's own files."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from lib.cases.dicomweb.client import PASSWORD, USER
from lib.runtime.digest import digest
from lib.runtime.errors import UserError

_SCHEME = re.compile(r"\s*[A-Za-z][A-Za-z0-9+.-]+://")


@dataclass(frozen=True)
class Folders:
    """Folders of one set of studies.

    Attributes:
        address: Location of the studies as given: a folder, or the address of a DICOMweb server.
        studies: Folder of the labels and their register: the studies folder itself; `work` for a PACS.
        work: Folder of the plan, the models and the caches.
        labels: Folder of the labels: beside the images, or in `work` where the studies cannot be written.
    """

    address: str
    studies: Path
    work: Path
    labels: Path

    @classmethod
    def of(cls, studies: Path | str, work_dir: str = "") -> Folders:
        """The folders for the given studies.

        Args:
            studies: A folder, or the address of a DICOMweb server.
            work_dir: Folder for the program's own files; empty for `.mdal` in the studies, or in the
                person's home folder for a PACS.

        Raises:
            UserError: If the address of a PACS is incomplete or holds a password.
        """
        given = Path(work_dir).resolve() if work_dir else None
        if is_address(str(studies)):
            address = check_address(str(studies).strip().rstrip("/"))
            work = given or _work_of(address).resolve()
            return cls(address, work, work, work / "labels")
        if scheme := _SCHEME.match(str(studies)):
            raise UserError(
                f"studies must be a folder, or an address that begins with http:// or https://; got "
                f"{scheme[0][:20]}. Give the address of the DICOMweb of the PACS."
            )
        folder = Path(studies).resolve()
        work = given or folder / ".mdal"
        return cls(str(folder), folder, work, _labels_of(folder, work))

    @property
    def label_folders(self) -> list[Path]:
        """Folders that may hold labels of earlier servers."""
        return list(dict.fromkeys([self.labels, self.studies / "labels"]))

    @property
    def in_pacs(self) -> bool:
        """Whether the studies are in a PACS."""
        return is_address(self.address)


def _labels_of(studies: Path, work: Path) -> Path:
    """Folder of the labels; once they are in the work folder, they stay there."""
    beside, at_work = studies / "labels", work / "labels"
    writable = os.access(beside if beside.exists() else studies, os.W_OK)
    return beside if writable and not at_work.exists() else at_work


def is_address(studies: str) -> bool:
    """Whether the studies are the address of a DICOMweb server, that is, in a PACS."""
    return studies.strip().lower().startswith(("http://", "https://"))


def check_address(studies: str) -> str:
    """Check that the address of a PACS is complete, and holds no secret: answers, tables and logs show it.

    Returns:
        The address, with its scheme in lower case.

    Raises:
        UserError: If the address has no host or a wrong port, or holds a user, a password, a query or a
            fragment; the message repeats none of them.
    """
    try:
        parts = urlsplit(studies)
        complete = bool(parts.hostname) and parts.port != 0
    except ValueError:  # brackets that do not match, or a port that is no number below 65,536
        complete = False
    if not complete:
        raise UserError(
            "the address of a PACS must be scheme, host, port from 1 to 65535 and path, such as "
            "http://127.0.0.1:8042/dicom-web, an IPv6 address in brackets; the one given is not. Correct it."
        )
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise UserError(
            f"the address of a PACS must be scheme, host and path alone; {parts.scheme}://{parts.hostname} "
            f"was given with a user, a password or a query. Set {USER} and {PASSWORD} in the environment."
        )
    return parts.scheme + studies[len(parts.scheme) :]


def _work_of(address: str) -> Path:
    """Folder in the user's home for one PACS, named after its host."""
    parts = urlsplit(address)
    name = re.sub(r"[^\w.-]", "_", parts.hostname or "pacs")
    return Path.home() / ".mdal" / f"{name}-{digest(address)[:8]}"
