"""Does a tumour outlined on the MR, read back on the grids of CT and PET, agree with their own contours?

The label is saved for the MR series of a case, as a reader's label is. It is then written as a DICOM SEG of
each series and read back on the grid of that series. For comparison the script gives the agreement that the
grids allow: a series' own contour is resampled to the MR's grid and back.
"""

from __future__ import annotations

import shutil
import tempfile
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from monai.metrics.meandice import compute_dice
from numpy.typing import NDArray
from rich.console import Console

from benchmarks.common.folders import RESULTS
from benchmarks.common.tables import table_of, write_rows
from lib.cases.case import Case, Source
from lib.cases.dicom_seg.read import read_segmentation
from lib.cases.dicom_seg.write import Author, write_segmentation
from lib.cases.formats.dicom import read_series
from lib.cases.formats.image import Volume, read_places, read_volume, resample
from lib.pipeline.settings import AppSettings
from lib.pipeline.workspace import Workspace
from lib.server.datastore import CaseDatastore

ROWS = RESULTS / "contours_across_grids.csv"
OUTLINED = "MR_T1"
TARGET = 0.85  # least Dice on the CT


def main(
    studies: Annotated[
        Path, typer.Argument(help="Folder of patients: series MR_T1, CT and PET with X_GTV.nii.gz for each.")
    ],
) -> None:
    """Measure and print the table: python -m benchmarks.server.contours_across_grids samples/dicom."""
    warnings.filterwarnings("ignore", module="highdicom")  # it warns that the patients' names were removed
    with tempfile.TemporaryDirectory() as folder:
        served = Path(folder) / "studies"
        shutil.copytree(studies, served, ignore=shutil.ignore_patterns("*.nii.gz"))
        datastore = CaseDatastore(Workspace(served, AppSettings()))
        rows = [
            row
            for case in datastore.workspace.pool.cases
            for row in measure(datastore, case, studies / case.id)
        ]
    console = Console()
    console.print(table_of(rows, "A contour of the MR on each series", digits=3))
    worst = min(float(row["Dice"]) for row in rows if row["series"] == "CT")
    console.print(f"CT: Dice at least {worst:.3f}; the target is {TARGET}")
    write_rows(ROWS, rows)


def measure(datastore: CaseDatastore, case: Case, contours: Path) -> Iterator[dict[str, str | float]]:
    """Save a patient's MR contour as a reader's label, and yield one row per series."""
    drawn = contours / f"{OUTLINED}_GTV.nii.gz"
    datastore.save_label(case.modalities[OUTLINED].series or "", str(drawn), "final", {})
    label = datastore.labels.read(case)
    for name, source in case.modalities.items():
        own = read_volume(Source(contours / f"{name}_GTV.nii.gz"))
        back = through_seg(datastore, label, source)
        outline = Volume((own.array > 0).astype(np.uint8), own.grid)
        allowed = resample(resample(outline, label.grid, nearest=True), own.grid, nearest=True)
        yield {
            "patient": case.id,
            "series": name,
            "voxel mm": " x ".join(f"{size:.2f}" for size in own.grid.spacing[::-1]),
            "own ml": round(outline.array.sum() * own.grid.voxel_ml, 3),
            "read back ml": round(np.count_nonzero(back.array) * own.grid.voxel_ml, 3),
            "Dice": round(agreement(back.array, outline.array), 3),
            "Dice allowed": round(agreement(allowed.array, outline.array), 3),
        }


def through_seg(datastore: CaseDatastore, label: Volume, source: Source) -> Volume:
    """The label written as the SEG of a series and read back on the grid of that series."""
    labels = datastore.workspace.decomposition.labels
    dataset = write_segmentation(
        label,
        read_series(source.path, source.series),
        labels=labels,
        author=Author("Reader"),
        written=datetime.now(UTC),
    )
    return read_segmentation(dataset, read_places(source), labels=labels)


def agreement(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> float:
    """Dice of the foregrounds."""
    mine, theirs = (torch.from_numpy(array > 0)[None, None] for array in (first, second))
    return float(compute_dice(mine, theirs))


if __name__ == "__main__":
    typer.run(main)
