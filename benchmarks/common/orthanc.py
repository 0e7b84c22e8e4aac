"""A private Orthanc with DICOMweb, from Debian's packages."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydicom
import requests

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
MISSING = (
    "Orthanc must be installed for this: apt-get install --no-install-recommends orthanc orthanc-dicomweb"
)


def is_installed() -> bool:
    """Whether Orthanc and its DICOMweb plugin are installed."""
    return bool(shutil.which("Orthanc")) and PLUGIN.exists()


@dataclass
class Orthanc:
    """A server that is running, or stopped with its data kept."""

    folder: Path
    port: int
    process: subprocess.Popen[Any] | None = None

    @property
    def address(self) -> str:
        """Address of Orthanc's own interface."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def dicomweb(self) -> str:
        """Address of the DICOMweb interface."""
        return f"{self.address}/dicom-web"

    def start(self) -> None:
        """Start the server and wait until it answers."""
        configuration = {
            "HttpPort": self.port,
            "DicomServerEnabled": False,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "StorageDirectory": str(self.folder / "storage"),
            "Plugins": [str(PLUGIN)],
            "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
        }
        (self.folder / "orthanc.json").write_text(json.dumps(configuration))
        with (self.folder / "log").open("a") as log:
            command = ["Orthanc", str(self.folder / "orthanc.json")]
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        end = time.monotonic() + 120
        while True:
            try:
                requests.get(f"{self.address}/system", timeout=5).raise_for_status()
                return
            except requests.RequestException:
                if self.process.poll() is not None or time.monotonic() > end:
                    text = (self.folder / "log").read_text()[-3000:]
                    raise RuntimeError(f"Orthanc did not start:\n{text}") from None
                time.sleep(0.1)

    def stop(self) -> None:
        """Kill the server, as a failing machine would; everything it has stored is on disk."""
        if self.process:
            self.process.kill()  # a graceful end takes seconds
            self.process.wait(30)
            self.process = None

    def upload(self, files: Iterable[Path]) -> None:
        """Store DICOM files."""
        with requests.Session() as session:
            for file in files:
                answer = session.post(f"{self.address}/instances", data=file.read_bytes(), timeout=60)
                answer.raise_for_status()

    def instance_of(self, file: Path) -> str:
        """Orthanc's own id of the instance in a file."""
        uid = pydicom.dcmread(file, stop_before_pixels=True).SOPInstanceUID
        (found,) = requests.post(f"{self.address}/tools/lookup", data=uid, timeout=30).json()
        return str(found["ID"])

    def delete(self, instance: str) -> None:
        """Remove an instance."""
        requests.delete(f"{self.address}/instances/{instance}", timeout=30).raise_for_status()


@contextmanager
def orthanc(*folders: Path) -> Iterator[Orthanc]:
    """A private server that holds every DICOM file below these folders."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="orthanc-") as folder:
        server = Orthanc(Path(folder), port)
        try:
            server.start()
            server.upload(file for each in folders for file in sorted(each.rglob("*.dcm")))
            yield server
        finally:
            server.stop()
