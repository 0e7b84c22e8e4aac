"""Are the probabilities calibrated: is a voxel with probability 0.7 part of the lesion in 7 of 10 cases?

    python -m benchmarks.ciml.calibration POOL PROTOCOL --keep DIR
    python -m benchmarks.ciml.calibration

CIML is trained as PROTOCOL says, a file of `benchmarks.ciml.fusion`, with its largest number of labels;
networks that lie in DIR already are not trained anew. Probabilities are those of the outermost region.
Counted are the voxels of the test patients near the contour or the outline: elsewhere nearly every voxel is
certain, and any network seems calibrated. Each finished network adds its rows; an interrupted run resumes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import matplotlib as mpl
import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from scipy import ndimage

from benchmarks.ciml.fusion.run import Study, ciml_of, study_of
from benchmarks.common.folders import RESULTS, ROOT
from benchmarks.common.tables import read_rows, table_of, write_rows
from lib.ciml.inference.predict import predict
from lib.ciml.training.patches import TrainingCase

ROWS, PICTURE = RESULTS / "calibration.csv", ROOT / "docs" / "images" / "calibration.png"
BINS = 10
NEAR_MM = 10.0
Row = dict[str, Any]
console = Console(width=160)


def main(
    pool: Annotated[Path | None, typer.Argument(help="Folder of the cases; without it, report.")] = None,
    protocol: Annotated[Path | None, typer.Argument(help="The protocol, a YAML file.")] = None,
    seeds: Annotated[int, typer.Option(help="Number of seeds: 0, 1 and so on.")] = 3,
    work: Annotated[Path, typer.Option(help="Folder for prepared cases.")] = Path("work"),
    keep: Annotated[Path | None, typer.Option(help="Folder for trained networks.")] = None,
    rows: Annotated[Path, typer.Option(help="File of the rows.")] = ROWS,
    picture: Annotated[Path, typer.Option(help="The reliability diagram.")] = PICTURE,
) -> None:
    """Train what has no rows yet, then report.

    Example: python -m benchmarks.ciml.calibration POOL benchmarks/ciml/fusion/brats18.yaml
    """
    if pool is not None and protocol is not None:
        study = study_of(pool, protocol, work=work, keep=keep)
        done = {(row["pool"], int(row["seed"])) for row in read_rows(rows)}
        for seed in range(seeds):
            if (study.protocol.name, seed) not in done:
                write_rows(rows, [*read_rows(rows), *rows_of(study, seed)])
                console.print(f"{study.protocol.name}, seed {seed}: done")
    found = read_rows(rows)
    pools = list(dict.fromkeys(row["pool"] for row in found))
    console.print(table_of([_summary(name, found) for name in pools], "Test patients", digits=3))
    draw(found, picture)
    console.print(f"drawn: {picture}")


def rows_of(study: Study, seed: int) -> list[Row]:
    """Train a network, or load it, and count its test patients' voxels by probability."""
    network, opened = ciml_of(study, seed)
    counted = sum(
        counts(predict(network, case.prepared, precision="float32")[0], case)
        for case in opened.load(opened.tested)
    )
    identity = {"pool": study.protocol.name, "seed": seed, "revision": study.revision}
    return [
        {
            **identity,
            "bin": number,
            "voxels": int(voxels),
            "probability": round(float(total / max(voxels, 1)), 5),
            "lesion": round(float(inside / max(voxels, 1)), 5),
        }
        for number, (voxels, total, inside) in enumerate(np.asarray(counted))
    ]


def counts(probability: NDArray[np.float32], case: TrainingCase) -> NDArray[np.float64]:
    """Voxels, summed probability and voxels of the lesion in each bin, shape (BINS, 3), near the lesion."""
    lesion, spacing = case.label > 0, case.prepared.grid.spacing
    distance = ndimage.distance_transform_edt(~(lesion | (probability >= 0.5)), sampling=spacing)
    near = distance <= NEAR_MM
    place = np.minimum((probability[near] * BINS).astype(int), BINS - 1)
    weights = (None, probability[near].astype(np.float64), lesion[near].astype(np.float64))
    return np.stack([np.bincount(place, weight, minlength=BINS) for weight in weights], axis=1)


def expected_error(rows: Sequence[Row]) -> float:
    """Expected calibration error: |probability - share in the lesion| of the bins, weighted by voxels."""
    voxels, probability, lesion = (
        np.array([float(row[column]) for row in rows]) for column in ("voxels", "probability", "lesion")
    )
    return float(np.average(np.abs(probability - lesion), weights=voxels))


def draw(rows: Sequence[Row], path: Path) -> None:
    """Draw the reliability diagram: one line a network."""
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    pools = list(dict.fromkeys(row["pool"] for row in rows))
    size = (3.5 * len(pools), 3.4)
    figure, (axes,) = plt.subplots(
        1, len(pools), figsize=size, sharey=True, layout="constrained", squeeze=False
    )
    for axis, pool in zip(axes, pools, strict=True):
        axis.plot([0, 1], [0, 1], color="0.7", linewidth=1)
        for of_seed in _by_seed(pool, rows):
            points = [
                (float(row["probability"]), float(row["lesion"])) for row in of_seed if int(row["voxels"])
            ]
            axis.plot(*zip(*points, strict=True), marker="o", markersize=3, linewidth=1)
        axis.set(title=pool, xlabel="probability of the model", xlim=(0, 1), ylim=(0, 1), aspect="equal")
    axes[0].set_ylabel("share of voxels in the lesion")
    figure.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(figure)


def _summary(pool: str, rows: Sequence[Row]) -> Row:
    seeds = _by_seed(pool, rows)
    errors = [expected_error(of_seed) for of_seed in seeds]
    return {
        "pool": pool,
        "networks": str(len(seeds)),
        "expected calibration error": f"{np.mean(errors):.3f} ({min(errors):.3f} to {max(errors):.3f})",
        **{
            name: float(np.mean([_mean(of_seed, column) for of_seed in seeds]))
            for name, column in (("mean probability", "probability"), ("share in the lesion", "lesion"))
        },
    }


def _mean(rows: Sequence[Row], column: str) -> float:
    """Mean over the counted voxels."""
    return float(
        np.average([float(row[column]) for row in rows], weights=[int(row["voxels"]) for row in rows])
    )


def _by_seed(pool: str, rows: Sequence[Row]) -> list[list[Row]]:
    ours = [row for row in rows if row["pool"] == pool]
    return [[row for row in ours if row["seed"] == seed] for seed in sorted({row["seed"] for row in ours})]


if __name__ == "__main__":
    typer.run(main)
