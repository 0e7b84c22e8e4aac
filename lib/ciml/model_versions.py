"""Versions of the published network: files that are never changed; the newest is served, or a chosen one."""

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
    """Numbered networks in a folder, safe between processes and against a kill at any moment.

    A version is one file, put there whole, that holds its own provenance; a model file `ciml.pt`, as it was
    kept before there were versions, is served until the first of them and becomes one of them then.
    """

    def __init__(self, folder: Path, *, keep: int = 10) -> None:
        """Use a folder; it need not be there.

        Args:
            folder: Versions lie in `versions/` in it.
            keep: Newest versions that are kept when another one comes.

        Raises:
            ValueError: If not even the newest is to be kept.
        """
        if keep < 1:
            raise ValueError(f"keep must be at least 1; got {keep}.")
        self.folder, self.keep = folder / "versions", keep
        self._earlier, self._choice = folder / "ciml.pt", self.folder / "served.txt"
        self._read: dict[tuple[Path, int, int], dict[str, Any]] = {}

    def current(self) -> Path | None:
        """File of the chosen version or else of the newest; None if there is none yet."""
        if version := self.chosen():
            return self.file(version)
        numbers = self._numbers()
        newest = self._file(numbers[-1]) if numbers else self._earlier
        return newest if newest.exists() else None

    def file(self, version: int) -> Path:
        """File of a version.

        Raises:
            ValueError: If there is no such version; the message lists those there are.
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
        """Version that somebody chose to be served; 0 where nobody did, or its file is gone."""
        again = "The newest version is served until another one is chosen."
        version = read_or_set_aside(self._choice, int, consequence=again) or 0
        return version if version in self._numbers() else 0

    def choose(self, version: int) -> None:
        """Serve a version from now on, in every process; 0 serves the newest.

        Raises:
            ValueError: If there is no such version.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder / ".lock"):  # of versions that go, the chosen one is kept
            if not version:
                self._choice.unlink(missing_ok=True)
                return
            self._number_the_earlier()
            self.file(version)
            with replacing(self._choice) as part:
                part.write_text(str(version))

    def versions(self) -> list[dict[str, Any]]:
        """Provenance of each version, oldest first; of a file that cannot be read the `problem`."""
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
        """Make a network the newest version, whole or not at all; its number.

        Args:
            network: To be served.
            metadata: Its provenance, what JSON can hold; the number is added.
            after: The choice that the network was judged by: it ends, as this one is not worse. Another
                choice was made meanwhile and stays.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder / ".lock"):
            for part in self.folder.glob(".part-*"):  # a writer that was killed left it
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
        """Keep `ciml.pt` as a version too, so that one can roll back to it."""
        if self._numbers() or not self._earlier.exists():
            return
        try:
            version = int(load(self._earlier)[1].get("version", 1))
        except ValueError:  # damaged: nothing to go back to
            return
        with replacing(self._file(version)) as part:
            shutil.copyfile(self._earlier, part)  # it stays for whoever is opening it now

    def _about(self, file: Path) -> dict[str, Any]:
        """Provenance of a file; each is read once, as it takes long for a large network."""
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
