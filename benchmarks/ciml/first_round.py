"""A first round on the samples through a live server: label the cases of the plan, train, segment the rest.

The expert's contours stand in for a reader. The script prints the Dice of the pre-segmentations of the
patients without a label. Beside it stands the Dice of a PET threshold that is chosen for each patient with
the answer known. The best, the middle and the worst pre-segmentation are drawn to docs/round.png.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import matplotlib.pyplot as plt
import numpy as np
import SimpleITK as sitk
import typer
from numpy.typing import NDArray
from rich.console import Console

from benchmarks.common.folders import RESULTS, ROOT, SAMPLES
from benchmarks.common.server import serving, slicer_client, train, wait_for_plan
from benchmarks.common.tables import table_of, write_rows

WINDOWS = {"CT": (-160.0, 240.0), "PET": (0.0, 10.0), "MR_T1": (0.0, None)}


def main(
    labels: Annotated[int, typer.Option(help="Patients to label.")] = 8,
    strategy: Annotated[
        str, typer.Option(help="Strategy that chooses them; random takes the site's own.")
    ] = "random",
) -> None:
    """Run the round: python -m benchmarks.ciml.first_round --labels 8."""
    rows, drawn = run(labels, strategy)
    mean = {key: float(np.mean([row[key] for row in rows])) for key in rows[0] if key != "case"}
    title = f"After {labels} labels, patients without one"
    Console().print(table_of([*rows, {"case": "mean", **mean}], title, digits=2))
    write_rows(RESULTS / "first_round.csv", rows)
    ranked = sorted(rows, key=lambda row: -row["Dice"])
    draw([drawn[row["case"]] for row in (ranked[0], ranked[len(ranked) // 2], ranked[-1])])


def run(labels: int, strategy: str) -> tuple[list[dict[str, Any]], dict[str, dict[str, Any]]]:
    """Label, train and segment the other patients; return their rows, and by id the images to draw."""
    console = Console()
    with tempfile.TemporaryDirectory() as folder:
        studies = Path(folder) / "studies"
        shutil.copytree(SAMPLES, studies)
        with serving(studies, conf={"study_labels": "ignore"}) as address:
            start = time.monotonic()
            wait_for_plan(address)
            console.print(f"plan after {time.monotonic() - start:.0f} s")
            reader = slicer_client(address, tmpdir=folder, client_id="benchmark")
            for _ in range(labels):
                sample = reader.next_sample(strategy, {})
                console.print(sample["id"], sample["mdal"]["reason"], highlight=False)
                reader.save_label(sample["id"], str(studies / sample["id"] / "GTV.nii.gz"), params={})
            start = time.monotonic()
            stats = train(address)
            console.print(f"trained in {time.monotonic() - start:.0f} s, validation Dice {stats['dice']:.2f}")
            rows, drawn = [], {}
            objects = reader.datastore()["objects"]
            for id in [id for id, record in objects.items() if not record["labels"]]:
                row, drawn[id] = segment(reader, studies, id)
                rows.append(row)
            return rows, drawn


def segment(reader: Any, studies: Path, id: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Dice of the model and of the best PET threshold, and the slice with the largest contour."""
    file, about = reader.infer("ciml", id, {})
    label = sitk.GetArrayFromImage(sitk.ReadImage(file)) > 0
    names = {"CT": "CT", "PET": "PET_SUVx100", "MR_T1": "MR_T1"}
    images = {key: read(studies / id / f"{name}.nii.gz") for key, name in names.items()}
    images["PET"] = images["PET"] / 100.0
    expert = read(studies / id / "GTV.nii.gz") > 0
    thresholds = np.quantile(images["PET"], np.linspace(0.5, 0.999, 60))
    oracle = max(dice(images["PET"] > threshold, expert) for threshold in thresholds)
    row = {
        "case": id,
        "Dice": dice(label, expert),
        "oracle PET threshold": oracle,
        "seconds": about["latencies"]["total"],
    }
    depth = int(expert.sum(axis=(1, 2)).argmax())
    planes = {key: image[depth] for key, image in images.items()}
    return row, {
        "id": id,
        "dice": row["Dice"],
        "planes": planes,
        "label": label[depth],
        "expert": expert[depth],
    }


def read(path: Path) -> NDArray[np.float64]:
    """Voxels of an image file."""
    return np.asarray(sitk.GetArrayFromImage(sitk.ReadImage(str(path))), dtype=float)


def dice(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    """Dice of two masks; the second mask is not empty here."""
    return 2.0 * float((first & second).sum()) / float(first.sum() + second.sum())


def draw(cases: list[dict[str, Any]]) -> None:
    """Draw the three modalities of each case with the expert's and the model's contour."""
    figure, axes = plt.subplots(len(cases), 3, figsize=(9, 3.1 * len(cases)), facecolor="black")
    for line, case in zip(axes, cases, strict=True):
        for axis, (modality, plane) in zip(line, case["planes"].items(), strict=True):
            low, high = WINDOWS[modality]
            axis.imshow(plane, cmap="gray", vmin=low, vmax=high, aspect="equal")
            axis.contour(case["expert"], [0.5], colors="#4fc3f7", linewidths=1.4)
            axis.contour(case["label"], [0.5], colors="#ffb300", linewidths=1.4)
            axis.set_title(f"{case['id']}  {modality}", color="white", fontsize=10)
            axis.axis("off")
        line[0].text(0.03, 0.04, f"Dice {case['dice']:.2f}", color="#ffb300", transform=line[0].transAxes)
    figure.suptitle(
        "blue: expert    amber: pre-segmentation, patient not labelled", color="white", fontsize=11
    )
    figure.tight_layout()
    (ROOT / "docs").mkdir(exist_ok=True)
    figure.savefig(ROOT / "docs" / "round.png", dpi=100)


if __name__ == "__main__":
    typer.run(main)
