"""Versions of the published network, in files that never change; the newest or a chosen one is served."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock

from lib.ciml.checkpoint import load, save
from lib.ciml.network.ciml_network import CimlNetwork
from lib.runtime.files import replacing
from lib.runtime.own_files import read_or_set_aside

_NAME = re.compile(r"(\d{4,})\.pt")


class Models:
    """Numbered versions of the network in a folder, safe between processes and against a kill at any moment.

    A version is one file, written atomically, that holds its own provenance. Releases without versions wrote
    `ciml.pt`. This file is served until the first version is published; it then becomes a version too.
    """

    def __init__(self, folder: Path, *, keep: int = 10) -> None:
        """Use a folder, which need not exist.

        Args:
            folder: Folder whose subfolder `versions/` holds the versions.
            keep: Number of newest versions to keep when another one is published.

        Raises:
            ValueError: If keep is below 1.
        """
        if keep < 1:
            raise ValueError(f"keep must be at least 1; got {keep}.")
        self.folder, self.keep = folder / "versions", keep
        self._earlier, self._choice = folder / "ciml.pt", self.folder / "served.txt"
        self._read: dict[tuple[Path, int, int], dict[str, Any]] = {}

    def current(self) -> Path | None:
        """File of the chosen version, or of the newest if none is chosen; None without any version."""
        if version := self.chosen():
            return self.file(version)
        numbers = self._numbers()
        newest = self._file(numbers[-1]) if numbers else self._earlier
        return newest if newest.exists() else None

    def file(self, version: int) -> Path:
        """File of a version.

        Raises:
            ValueError: If there is no such version; the message lists the known versions.
        """
        numbers = self._numbers()
        if version in numbers:
            return self._file(version)
        if not numbers and self._earlier.exists() and load(self._earlier)[1].get("version") == version:
            return self._earlier
        known = ", ".join(str(about["version"]) for about in self.versions())
        allowed = f"0, for the newest, or one of {known}" if known else "0 until a model is trained"
        raise ValueError(f"the version must be {allowed}; got {version}. Choose one of these.")

    def chosen(self) -> int:
        """Version that was chosen to be served; 0 if none was chosen or its file is gone."""
        again = "The newest version is served until another one is chosen."
        version = read_or_set_aside(self._choice, int, consequence=again) or 0
        return version if version in self._numbers() else 0

    def choose(self, version: int) -> None:
        """Serve a version from now on, in every process; 0 serves the newest.

        Raises:
            ValueError: If there is no such version.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder / ".lock"):  # so that `publish` does not remove the chosen version
            if not version:
                self._choice.unlink(missing_ok=True)
                return
            self._number_the_earlier()
            self.file(version)
            with replacing(self._choice) as part:
                part.write_text(str(version))

    def versions(self) -> list[dict[str, Any]]:
        """Provenance of each version, oldest first; an unreadable file has a `problem` instead."""
        files = [(number, self._file(number)) for number in self._numbers()]
        if not files and self._earlier.exists():
            files = [(0, self._earlier)]
        found = []
        for number, file in files:
            try:
                found.append({"version": number, **self._about(file)})
            except ValueError as err:
                found.append({"version": number, "problem": str(err)})
        return found

    def publish(self, network: CimlNetwork, metadata: Mapping[str, Any], *, after: int = 0) -> int:
        """Publish a network as the newest version, atomically, and return its number.

        Args:
            network: Network to publish.
            metadata: Provenance of the network in JSON values; the version number is added.
            after: Chosen version with which the network was compared. This choice ends, because the network
                is not worse; a choice made in the meantime stays.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder / ".lock"):
            for part in self.folder.glob(".part-*"):  # left by a killed writer
                part.unlink()
            self._number_the_earlier()
            version = max(self._numbers(), default=0) + 1
            save(self._file(version), network, {**metadata, "version": version})
            if after and self.chosen() == after:
                self._choice.unlink()
            for number in self._numbers()[: -self.keep]:
                if number != self.chosen():
                    self._file(number).unlink()
        return version

    def _number_the_earlier(self) -> None:
        """Copy `ciml.pt` to a version, so that a user can roll back to it."""
        if self._numbers() or not self._earlier.exists():
            return
        try:
            version = int(load(self._earlier)[1].get("version", 1))
        except ValueError:  # a damaged file is no version to roll back to
            return
        with replacing(self._file(version)) as part:
            shutil.copyfile(self._earlier, part)  # the original stays for a process that is opening it

    def _about(self, file: Path) -> dict[str, Any]:
        """Provenance of a file, read only once because large networks load slowly."""
        stat = file.stat()
        stamp = (file, stat.st_ino, stat.st_mtime_ns)
        if stamp not in self._read:
            self._read[stamp] = load(file)[1]
        return self._read[stamp]

    def _numbers(self) -> list[int]:
        matches = (_NAME.fullmatch(path.name) for path in self.folder.glob("*.pt") if path.is_file())
        return sorted(int(match[1]) for match in matches if match)

    def _file(self, version: int) -> Path:
        return self.folder / f"{version:04d}.pt"
