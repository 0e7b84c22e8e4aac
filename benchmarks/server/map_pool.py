"""A pool of many small cases with a finished check and a plan, for the map."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from lib.mdal import pair_names
from lib.mdal.representation.views import COARSE_SHAPE
from lib.pipeline.place_differences import PlaceDifferences, differences_folder
from lib.pipeline.settings import read_settings
from lib.pipeline.workspace import Workspace
from lib.plan.scores import CaseScore

CONF: dict[str, object] = {"budget": 200, "prefetch": 0, "device": "cpu"}
SMALL, LARGE = (20, 20, 10), (256, 256, 128)
WIDE_MM = (400.0, 400.0, 300.0)
VALUES = {"CT": (-1000.0, 40.0), "PET": (0.0, 2.0), "MR_T1": (0.0, 300.0)}  # outside and inside the body
FEATURES, GROUPS = 64, 25


def fill(studies: Path, cases: int) -> None:
    """Write the cases; the last one is large."""

    def write(number: int) -> None:
        rng, shape = np.random.default_rng(number), LARGE if number == cases - 1 else SMALL
        folder = studies / f"case_{number:05}"
        folder.mkdir(parents=True)
        for modality, (outside, inside) in VALUES.items():
            image = nib.Nifti1Image(volume(rng, shape, outside, inside), affine(shape))
            nib.save(image, folder / f"{modality}.nii")

    with ThreadPoolExecutor(4) as writers:
        list(writers.map(write, range(cases)))


def volume(
    rng: np.random.Generator, shape: tuple[int, ...], outside: float, inside: float
) -> NDArray[np.float32]:
    """An ellipsoid in air, with 1 % noise and a brighter spot somewhere inside."""
    axes = np.meshgrid(*(np.linspace(-1.0, 1.0, size) for size in shape), indexing="ij", sparse=True)
    body = (axes[0] / 0.8) ** 2 + (axes[1] / 0.6) ** 2 + (axes[2] / 0.95) ** 2 < 1.0
    spot = sum(
        ((axis - middle) / 0.2) ** 2 for axis, middle in zip(axes, rng.uniform(-0.3, 0.3, 3), strict=True)
    )
    values = np.where(body, inside + (inside - outside) * np.exp(-np.asarray(spot)), outside)
    noise = 0.01 * (inside - outside) * rng.standard_normal(shape, dtype=np.float32)
    return np.asarray(values + np.where(body, noise, 0.0), dtype=np.float32)


def affine(shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Affine of a volume around the origin with the same width in mm for every shape."""
    spacing = np.array(WIDE_MM) / shape
    found = np.diag([*spacing, 1.0])
    found[:3, 3] = -0.5 * np.array(WIDE_MM)
    return found


def planned(studies: Path) -> Workspace:
    """Check the site and write its plan."""
    workspace = Workspace(studies, read_settings(CONF))
    workspace.check()
    if len(workspace.verdicts.served) < 0.99 * len(workspace.pool.cases):
        raise RuntimeError(
            f"the cases must pass the check; {len(workspace.verdicts.quarantined)} are in quarantine."
        )
    rng, pairs = np.random.default_rng(0), pair_names(workspace.preparation.modalities)
    ids = [case.id for case in workspace.verdicts.served]
    clusters = rng.integers(0, GROUPS, len(ids))
    features = 2.0 * rng.standard_normal((GROUPS, FEATURES))[clusters] + rng.standard_normal(
        (len(ids), FEATURES)
    )
    by_pair = rng.standard_normal((len(ids), len(pairs)))
    difference = by_pair.mean(axis=1)
    percentile = 100.0 * difference.argsort().argsort() / max(1, len(ids) - 1)

    def score(row: int) -> CaseScore:
        values = dict(zip(pairs, by_pair[row].tolist(), strict=True))
        nats = {pair: -value for pair, value in values.items()}
        names = ("pmi_nats_by_pair", "pmi_nats_of_top_tenth_by_pair", "critic_nats_by_pair")
        details: dict[str, Any] = {"difference_by_pair": values, **dict.fromkeys(names, nats)}
        details["most_different_pair"] = max(values, key=lambda pair: values[pair])
        return CaseScore(
            float(difference[row]), float(percentile[row]), details, float(difference[row]),
            int(clusters[row]), features[row],
        )  # fmt: skip

    content = workspace.content()
    workspace.plan.write(
        content=content,
        seed=0,
        scores={id: score(row) for row, id in enumerate(ids)},
        orders={workspace.settings.strategy: [ids[row] for row in (-difference).argsort()]},
        about={
            "fingerprint": workspace.fingerprint(),
            "settings": workspace.scoring_settings,
            "warnings": [],
        },
    )
    places = rng.standard_normal((len(ids), len(pairs), 216)).astype(np.float16)
    rows = {id: row for row, id in enumerate(ids)}
    PlaceDifferences(rows, pairs, places, COARSE_SHAPE).save(differences_folder(workspace), of=content)
    return workspace
