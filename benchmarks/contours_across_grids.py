"""A tumour outlined on the MR, read back on the grids of CT and PET: does it agree with their own contours?

The label is saved as a reader's is, for the MR series of a case; for each series it is then written as the
DICOM SEG of that series and read back on its grid. Beside it stands what the grids allow: a series' own
contour carried to the MR's grid and back.
"""

from __future__ import annotations

import argparse
import csv
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from monai.metrics.meandice import compute_dice
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from lib.cases.case import Case, Source
from lib.cases.dicom import read_series
from lib.cases.image import Volume, read_grid, read_volume, resample
from lib.datastores.local import CaseDatastore
from lib.dicom_seg.read import read_segmentation
from lib.dicom_seg.write import Author, write_segmentation
from lib.settings import AppSettings
from lib.site import Site

RESULTS = Path(__file__).parent / "results" / "contours_across_grids.csv"
OUTLINED = "MR_T1"
TARGET = 0.85  # Dice on the CT


def main() -> None:
    """Save, read back, print a table, write a CSV."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="Example: python -m benchmarks.contours_across_grids samples/dicom",
    )
    parser.add_argument(
        "studies",
        type=Path,
        help="folder of patients, with MR_T1, CT and PET series and X_GTV.nii.gz of each",
    )
    studies = parser.parse_args().studies.resolve()
    warnings.filterwarnings("ignore", module="highdicom")  # that the patients' names were taken away
    with tempfile.TemporaryDirectory() as folder:
        served = Path(folder) / "studies"
        shutil.copytree(studies, served, ignore=shutil.ignore_patterns("*.nii.gz"))
        datastore = CaseDatastore(Site(served, AppSettings()))
        rows = [
            row for case in datastore.site.pool.cases for row in measure(datastore, case, studies / case.id)
        ]
    console, table = Console(), Table(title="A contour of the MR on each series", title_justify="left")
    for column in rows[0]:
        table.add_column(column, justify="left" if column in ("patient", "series") else "right")
    for row in rows:
        table.add_row(*map(str, row.values()))
    console.print(table)
    worst = min(float(row["Dice"]) for row in rows if row["series"] == "CT")
    console.print(f"CT: Dice at least {worst:.3f}; the target is {TARGET}")
    RESULTS.parent.mkdir(exist_ok=True)
    with RESULTS.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def measure(datastore: CaseDatastore, case: Case, contours: Path) -> Iterator[dict[str, str]]:
    """Save a patient's MR contour as a reader's label, then a row a series."""
    drawn = contours / f"{OUTLINED}_GTV.nii.gz"
    datastore.save_label(case.modalities[OUTLINED].series or "", str(drawn), "final", {})
    label = datastore.read_label(case)
    for name, source in case.modalities.items():
        own = read_volume(Source(contours / f"{name}_GTV.nii.gz"))
        back = through_seg(datastore, label, source)
        outline = Volume((own.array > 0).astype(np.uint8), own.grid)
        allowed = resample(resample(outline, label.grid, nearest=True), own.grid, nearest=True)
        yield {
            "patient": case.id,
            "series": name,
            "voxel mm": " x ".join(f"{size:.2f}" for size in own.grid.spacing[::-1]),
            "own ml": f"{outline.array.sum() * own.grid.voxel_ml:.1f}",
            "read back ml": f"{np.count_nonzero(back.array) * own.grid.voxel_ml:.1f}",
            "Dice": f"{agreement(back.array, outline.array):.3f}",
            "Dice allowed": f"{agreement(allowed.array, outline.array):.3f}",
        }


def through_seg(datastore: CaseDatastore, label: Volume, source: Source) -> Volume:
    """The label as the SEG of a series, read on that series' grid."""
    labels = datastore.site.decomposition.labels
    dataset = write_segmentation(
        label,
        read_series(source.path, source.series),
        labels=labels,
        author=Author("Reader"),
        written=datetime.now(UTC),
    )
    return read_segmentation(dataset, read_grid(source), labels=labels)


def agreement(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> float:
    """Dice of what is not background."""
    mine, theirs = (torch.from_numpy(array > 0)[None, None] for array in (first, second))
    return float(compute_dice(mine, theirs))


if __name__ == "__main__":
    main()
