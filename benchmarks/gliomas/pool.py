"""A generated pool of gliomas in four MR contrasts, whose truth is known, for the study of label efficiency.

    python -m benchmarks.gliomas.pool OUTPUT --cases 300 --test 60 --seed 0 --figure docs/glioma_pool.png

It is a control, not a stand-in for patients: what a strategy wins here it wins on these assumptions. They
stand with their numbers in `gliomas.anatomy` (heads), `gliomas.lesions` (kinds, long tail, sizes, unique
parts), `gliomas.scanner` (contrasts, scanners, damage) and `gliomas.plan` (shares). In short: three quarters
of the cases are near-duplicates of twelve common appearances, one quarter is rare; in three of ten one
modality alone shows a part of the lesion; four scanners, drawn apart from the lesions; in eight of a hundred
cases of the pool one of the four scans is damaged, the label right. OUTPUT gets a folder a case with T1,
T1ce, T2, FLAIR and `lesion` (the whole lesion), and `truth.csv`.

The numbers were set by looking at pictures, at the pool check, and at Dice over random subsets of growing
size. No selection strategy was run before they were fixed. What was seen, seed 0: MONAI's UNet on slices (800
steps of 8, `benchmarks/label_efficiency/evidence/glioma.yaml`) reached Dice 0.72, 0.82, 0.85, 0.86 on 40 of
the candidates after learning 5, 20, 80, 200 random others (means of two draws); rare cases 0.57, 0.77, 0.85,
0.87, so it is rare ones that labels buy. Networks on volumes need far longer: MONAI's SegResNet, 1,200 steps
of 2 patches of 16 x 32 x 32, came to 0.43 and 0.63 on the test set with 10 labels, 0.69 and 0.61 with 160. An
earlier draft had more noise, bias and hyperintensities: a tree classifier of smoothed voxels reached 0.45
with 10 and 0.44 with 160 labels, so they were lowered; it then reached 0.67 with 10 and 0.68 with 80 (rare
cases 0.41 and 0.59).

The folder appears when it is whole. The same counts, dials and seed give the same files, byte for byte.
"""

from __future__ import annotations

import csv
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from benchmarks.gliomas.anatomy import grid
from benchmarks.gliomas.examination import COLUMNS, make
from benchmarks.gliomas.figure import write_figure
from benchmarks.gliomas.plan import DAMAGED, UNIQUE, Patient, Shares, draw_patients
from benchmarks.gliomas.scanner import MODALITIES
from lib.cases.formats.image import Volume, write_nifti
from lib.runtime.disk_cache import PART
from lib.runtime.progress import OnProgress
from lib.views.terminal.progress import progress_bar

LABEL = "lesion"


def main(
    output: Annotated[Path, typer.Argument(help="Folder to write; must not hold anything.")],
    cases: Annotated[int, typer.Option(min=1, help="Of the pool.")] = 300,
    test: Annotated[int, typer.Option(min=0, help="Of the test set, beside those.")] = 60,
    seed: Annotated[int, typer.Option(min=0, help="Of everything.")] = 0,
    unique: Annotated[float, typer.Option(help="Share with a part that one modality alone shows.")] = UNIQUE,
    damaged: Annotated[float, typer.Option(help="Share of the pool with a damaged scan.")] = DAMAGED,
    figure: Annotated[Path | None, typer.Option(help="Also a PNG of eight cases.")] = None,
) -> None:
    """Write the pool: python -m benchmarks.gliomas.pool /tmp/glioma --cases 300 --test 60 --seed 0."""
    console = Console()
    try:
        patients = draw_patients(cases, test, Shares(unique, damaged), seed=seed)
        rows = write_pool(patients, output, console)
    except ValueError as err:
        raise typer.BadParameter(str(err)) from None
    rare, hurt = sum(bool(row["rare"]) for row in rows), sum(bool(row["damage"]) for row in rows)
    console.print(f"{len(rows)} cases in {output}: {rare} rare, {hurt} damaged.")
    if figure:
        write_figure(patients, figure)
        console.print(f"{figure} written.")


def write_pool(patients: Sequence[Patient], output: Path, console: Console) -> list[dict[str, object]]:
    """Write everyone beside `output` and put the folder there when it is whole.

    Returns:
        The rows of `truth.csv`.

    Raises:
        ValueError: If `output` holds something.
    """
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise ValueError(f"OUTPUT must be a new or empty folder; {output} holds something. Give another.")
    output.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=PART, dir=output.parent))
    try:
        with progress_bar(console) as tell:
            rows = list(_written(patients, part, tell))
        with (part / "truth.csv").open("w", newline="") as stream:
            writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        part.chmod(0o755)
        part.replace(output)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return rows


def _written(patients: Sequence[Patient], folder: Path, tell: OnProgress) -> Iterator[dict[str, object]]:
    for number, patient in enumerate(patients, start=1):
        made = make(patient)
        for name, array in (*zip(MODALITIES, made.images, strict=True), (LABEL, made.label)):
            target = folder / patient.case / f"{name}.nii.gz"
            target.parent.mkdir(exist_ok=True)
            write_nifti(Volume(array, grid()), target, durable=False)
        tell(number / len(patients), patient.case)
        yield made.truth


if __name__ == "__main__":
    typer.run(main)
