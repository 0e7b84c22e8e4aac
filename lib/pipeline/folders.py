"""Folders of the studies and of the program's own files."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from lib.runtime.digest import digest
from lib.runtime.errors import UserError


@dataclass(frozen=True)
class Folders:
    """Folders of one set of studies.

    Attributes:
        address: Location of the studies as given: a folder, or the address of a DICOMweb server.
        studies: Folder of the labels and their register: the studies folder itself; `work` for a PACS.
        work: Folder of the plan, the models and the caches.
    """

    address: str
    studies: Path
    work: Path

    @classmethod
    def of(cls, studies: Path | str, work_dir: str = "") -> Folders:
        """The folders for the given studies.

        Args:
            studies: A folder, or the address of a DICOMweb server.
            work_dir: Folder for the program's own files; empty for `.mdal` in the studies, or in the
                person's home folder for a PACS.

        Raises:
            UserError: If the address of a PACS holds a password.
        """
        given = Path(work_dir).resolve() if work_dir else None
        if is_address(str(studies)):
            address = check_address(str(studies).strip().rstrip("/"))
            work = given or _work_of(address).resolve()
            return cls(address, work, work)
        folder = Path(studies).resolve()
        return cls(str(folder), folder, given or folder / ".mdal")

    @property
    def in_pacs(self) -> bool:
        """Whether the studies are in a PACS."""
        return is_address(self.address)


def is_address(studies: str) -> bool:
    """Whether the studies are the address of a DICOMweb server, that is, in a PACS."""
    return studies.startswith(("http://", "https://"))


def check_address(studies: str) -> str:
    """Check that the address of a PACS holds no secret: answers, tables and logs show it.

    Returns:
        The address, unchanged.

    Raises:
        UserError: If the address holds a user, a password, a query or a fragment; the message repeats none.
    """
    parts = urlsplit(studies)
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise UserError(
            f"the address of a PACS must be scheme, host and path alone; {parts.scheme}://{parts.hostname} "
            "was given with a user, a password or a query. Set MONAI_LABEL_DICOMWEB_USERNAME and "
            "MONAI_LABEL_DICOMWEB_PASSWORD in the environment."
        )
    return studies


def _work_of(address: str) -> Path:
    """Folder in the user's home for one PACS, named after its host."""
    parts = urlsplit(address)
    name = re.sub(r"[^\w.-]", "_", parts.hostname or "pacs")
    return Path.home() / ".mdal" / f"{name}-{digest(address)[:8]}"
