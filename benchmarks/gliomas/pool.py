"""A generated pool of gliomas in four MR contrasts with a known truth, for the study of label efficiency.

    python -m benchmarks.gliomas.pool OUTPUT --cases 300 --test 60 --seed 0 --figure docs/glioma_pool.png

The pool is a control and does not replace patients: a strategy that wins here wins under these assumptions.
The assumptions and their numbers are in `gliomas.anatomy` (heads), `gliomas.lesions` (kinds, long tail,
sizes, unique parts), `gliomas.scanner` (contrasts, scanners, damage) and `gliomas.plan` (shares). In short:
three quarters of the cases are near-duplicates of twelve common appearances, and one quarter is rare. In
three of ten cases only one modality shows a part of the lesion. There are four scanners, drawn independently
of the lesions. In eight of a hundred cases of the pool one of the four scans is damaged, while the label is
right. OUTPUT gets `truth.csv` and one folder per case with T1, T1ce, T2, FLAIR and `lesion`: the whole
lesion, or with `--regions` necrotic core 1, oedema 2 and enhancing tumour 3.

The numbers were set by looking at pictures, at the pool check, and at Dice over random subsets of growing
size. No selection strategy was run before they were fixed. Results with seed 0: MONAI's UNet on slices (800
steps of 8, `benchmarks/label_efficiency/evidence/glioma.yaml`) reached Dice 0.72, 0.82, 0.85, 0.86 on 40 of
the candidates after training on 5, 20, 80, 200 random others (means of two draws). On rare cases it reached
0.57, 0.77, 0.85, 0.87, so labels mainly help with rare cases. Networks on volumes need far longer: MONAI's
SegResNet, 1,200 steps of 2 patches of 16 x 32 x 32, reached 0.43 and 0.63 on the test set with 10 labels,
0.69 and 0.61 with 160. An earlier draft had more noise, bias and hyperintensities; on it a tree classifier of
smoothed voxels reached 0.45 with 10 labels and 0.44 with 160. Noise, bias and hyperintensities were therefore
lowered, and the classifier then reached 0.67 with 10 labels and 0.68 with 80 (rare cases 0.41 and 0.59).

The folder appears only when it is complete. The same counts, dials and seed give the same files, byte for
byte.
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
    output: Annotated[Path, typer.Argument(help="Folder to write; must be new or empty.")],
    cases: Annotated[int, typer.Option(min=1, help="Cases in the pool.")] = 300,
    test: Annotated[int, typer.Option(min=0, help="Cases in the test set, in addition.")] = 60,
    seed: Annotated[int, typer.Option(min=0, help="Seed of all random draws.")] = 0,
    unique: Annotated[
        float, typer.Option(help="Share of cases with a part that only one modality shows.")
    ] = UNIQUE,
    damaged: Annotated[float, typer.Option(help="Share of the pool with a damaged scan.")] = DAMAGED,
    regions: Annotated[
        bool, typer.Option("--regions", help="Label core, oedema and enhancing tumour, not one lesion.")
    ] = False,
    figure: Annotated[Path | None, typer.Option(help="PNG of eight cases to write as well.")] = None,
) -> None:
    """Write the pool: python -m benchmarks.gliomas.pool /tmp/glioma --cases 300 --test 60 --seed 0."""
    console = Console()
    try:
        patients = draw_patients(cases, test, Shares(unique, damaged), seed=seed)
        rows = write_pool(patients, output, console, regions=regions)
    except ValueError as err:
        raise typer.BadParameter(str(err)) from None
    rare, hurt = sum(bool(row["rare"]) for row in rows), sum(bool(row["damage"]) for row in rows)
    console.print(f"{len(rows)} cases in {output}: {rare} rare, {hurt} damaged.")
    if figure:
        write_figure(patients, figure)
        console.print(f"{figure} written.")


def write_pool(
    patients: Sequence[Patient], output: Path, console: Console, *, regions: bool = False
) -> list[dict[str, object]]:
    """Write all cases beside `output`, and move the folder there when it is complete.

    Returns:
        Rows of `truth.csv`.

    Raises:
        ValueError: If `output` holds something.
    """
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise ValueError(f"OUTPUT must be a new or empty folder; {output} holds something. Give another.")
    output.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=PART, dir=output.parent))
    try:
        with progress_bar(console) as tell:
            rows = list(_written(patients, part, tell, regions=regions))
        with (part / "truth.csv").open("w", newline="") as stream:
            writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        part.chmod(0o755)
        part.replace(output)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return rows


def _written(
    patients: Sequence[Patient], folder: Path, tell: OnProgress, *, regions: bool
) -> Iterator[dict[str, object]]:
    for number, patient in enumerate(patients, start=1):
        made = make(patient)
        for name, array in (
            *zip(MODALITIES, made.images, strict=True),
            (LABEL, made.regions if regions else made.label),
        ):
            target = folder / patient.case / f"{name}.nii.gz"
            target.parent.mkdir(exist_ok=True)
            write_nifti(Volume(array, grid()), target, durable=False)
        tell(number / len(patients), patient.case)
        yield made.truth


if __name__ == "__main__":
    typer.run(main)
