"""How long do a start and a Next Sample take on a PACS of 2,000 studies?

A real Orthanc holds tiny studies of one CT and one MR series each. The server is a real process that is asked
over HTTP. A start is the time from the launch of the process to the first successful answer of /info/, which
is requested every 0.3 s. It includes the imports, the listing of every series, and the app. The first start
has an empty work folder; the second has the files that the first left there. The pool check fetches every
series and runs meanwhile in a process of its own. The column `fetched` is the number of series that the check
and the server had fetched when the last call was answered. One reader asks ten times a second, from the first
answer on, and labels nothing, so each call offers a case that nobody has seen. The PACS runs on the same
cores.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Annotated

import numpy as np
import requests
import typer
from pydicom import Dataset, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, MRImageStorage, generate_uid
from rich.console import Console

from benchmarks.common.folders import RESULTS
from benchmarks.common.orthanc import Orthanc, orthanc
from benchmarks.common.server import serving
from benchmarks.common.tables import table_of, write_rows

ROWS = RESULTS / "pacs_scale.csv"
SIZE, SLICES = 16, 3
SERIES = (("CT", "CT", CTImageStorage), ("MR", "T1", MRImageStorage))
PAUSE_S = 0.1  # pause between two calls, so that some calls coincide with a listing
START_S, NEXT_SAMPLE_MS = 10.0, 50.0  # targets


def main(
    studies: Annotated[int, typer.Option(help="Studies in the PACS.")] = 2000,
    calls: Annotated[int, typer.Option(help="Next Samples to measure.")] = 300,
) -> None:
    """Fill a PACS, measure two starts: python -m benchmarks.server.pacs_scale --studies 2000 --calls 300."""
    console = Console()
    with tempfile.TemporaryDirectory() as folder, orthanc() as pacs:
        console.print(f"sending {studies} studies …")
        fill(pacs, studies)
        console.print("measuring …")
        rows = [measure(start, pacs, Path(folder), studies, calls) for start in ("first", "second")]
    title = f"{studies} studies in a PACS, {calls} Next Samples over HTTP"
    targets = f"targets: start {START_S:g} s, Next Sample p99 {NEXT_SAMPLE_MS:g} ms"
    console.print(table_of(rows, title, caption=targets))
    write_rows(ROWS, rows)


def fill(pacs: Orthanc, studies: int) -> None:
    """Send the studies, several at a time."""
    with ThreadPoolExecutor(4) as senders, requests.Session() as session:

        def send(number: int) -> None:
            for instance in study(number):
                session.post(f"{pacs.address}/instances", data=instance, timeout=60).raise_for_status()

        for sent in [senders.submit(send, number) for number in range(studies)]:
            sent.result()


def study(number: int) -> Iterator[bytes]:
    """Instances of one patient: noise that differs between patients."""
    rng = np.random.default_rng(number)
    uid, frame = generate_uid(), generate_uid()
    for modality, description, kind in SERIES:
        series = generate_uid()
        for place in range(SLICES):
            pixels = rng.integers(0, 1000, (SIZE, SIZE), dtype=np.uint16)
            instance = Dataset()
            instance.file_meta = FileMetaDataset()
            instance.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
            instance.file_meta.MediaStorageSOPClassUID = instance.SOPClassUID = kind
            instance.SOPInstanceUID = generate_uid()
            instance.file_meta.MediaStorageSOPInstanceUID = instance.SOPInstanceUID
            instance.PatientID, instance.PatientName = f"patient_{number:05}", ""
            instance.StudyInstanceUID, instance.SeriesInstanceUID, instance.FrameOfReferenceUID = (
                uid,
                series,
                frame,
            )
            instance.StudyDate, instance.StudyTime, instance.StudyID = "20200101", "120000", str(number)
            instance.Modality, instance.SeriesDescription = modality, description
            instance.Rows, instance.Columns, instance.PixelSpacing = SIZE, SIZE, [4.0, 4.0]
            instance.ImagePositionPatient = [0.0, 0.0, 4.0 * place]
            instance.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
            instance.SliceThickness, instance.InstanceNumber = 4.0, place + 1
            instance.SamplesPerPixel, instance.PhotometricInterpretation = 1, "MONOCHROME2"
            instance.BitsAllocated, instance.BitsStored, instance.HighBit = 16, 16, 15
            instance.PixelRepresentation, instance.PixelData = 0, pixels.tobytes()
            instance.is_little_endian, instance.is_implicit_VR = True, False
            stream = BytesIO()
            dcmwrite(stream, instance, write_like_original=False)
            yield stream.getvalue()


def measure(
    start: str, pacs: Orthanc, folder: Path, studies: int, calls: int
) -> dict[str, str | float | int]:
    """Row of one start: seconds to the first answer, and milliseconds of the Next Samples."""
    work, before = folder / "work", time.monotonic()
    with serving(
        pacs.dicomweb,
        conf={"work_dir": work},
        log=folder / f"{start}.log",
        environment={"MONAI_LABEL_AUTO_UPDATE_SCORING": "false"},
    ) as address:
        started = time.monotonic() - before
        session, times = requests.Session(), []
        if (total := session.get(f"{address}/info/").json()["datastore"]["total"]) != studies:
            sys.exit(f"the server must list {studies} cases; it lists {total}")
        for call in range(calls):
            asked = time.perf_counter()
            answer = session.post(f"{address}/activelearning/random", json={"client_id": f"{start} reader"})
            times.append(1000.0 * (time.perf_counter() - asked))
            time.sleep(PAUSE_S)
            if not answer.ok:
                sys.exit(f"call {call}: {answer.text}\n{(folder / f'{start}.log').read_text()[-3000:]}")
            if not answer.json().get("id"):
                sys.exit(f"no case was offered at call {call}")
        fetched = sum(1 for entry in (work / "dicom").glob("[!.]*"))
    return {
        "start": start,
        "start s": started,
        "p50 ms": float(np.percentile(times, 50)),
        "p99 ms": float(np.percentile(times, 99)),
        "max ms": max(times),
        "fetched": fetched,
    }


if __name__ == "__main__":
    typer.run(main)
