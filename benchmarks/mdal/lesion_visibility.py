"""Can the modality difference see the lesion, and what does seeing it cost?

    python -m benchmarks.mdal.lesion_visibility samples/sts
    python -m benchmarks.mdal.lesion_visibility GLIOMAS --cases 60

Encoders are trained on folds of a labelled pool without a label. Then the expert's outline tells how far
the modality difference of a place, and of a case, follows the lesion. Every setting is measured on the same
folds. The row of a fold is written as soon as the fold is done, and an interrupted run resumes. The setting
`product` is that of the app on a CPU.
"""

from __future__ import annotations

import csv
import json
import tempfile
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from resource import RUSAGE_SELF, getrusage
from typing import Annotated, Any

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from rich.console import Console
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from benchmarks.common.folders import RESULTS
from benchmarks.common.tables import table_of, write_rows
from benchmarks.mdal.lesion_pool import FOLDS, Pool, read_pool
from lib.mdal.representation.contrastive import ContrastiveSettings, train_encoders
from lib.mdal.representation.encoder import EncoderSettings, place_counts, place_shares
from lib.mdal.representation.matching import matched_share
from lib.mdal.representation.views import COARSE_SHAPE, VIEW_SHAPE, Shape
from lib.mdal.scoring.heads import Dense, GaussianHead, embed
from lib.mdal.scoring.place_difference import (
    above_whole_case,
    case_difference,
    lesion_focused,
    standardise_places,
    whole_case,
)
from lib.mdal.scoring.pmi import Array, Rows, assign_folds, finite_mean
from lib.mdal.scoring.pool_places import departure_of_case
from lib.runtime.files import replacing
from lib.runtime.own_files import read_arrays
from lib.runtime.progress import OnProgress, OnShareDone
from lib.views.terminal.progress import progress_bar

HEADS = 4  # parts of the held-out cases, each scored by a head that was fitted to the others
LESION = 0.5  # least share of a place inside the outline for a place of the lesion
ROWS = RESULTS / "lesion_visibility.csv"


@dataclass(frozen=True)
class Setting:
    """One way to take the measurement.

    Attributes:
        view: Shape of the views.
        contrastive: Schedule and network; one step stands for two a training case.
        crossfit: Whether the head is fitted to held-out cases; else to the training cases.
    """

    view: Shape
    contrastive: ContrastiveSettings
    crossfit: bool = True


_FINE = EncoderSettings(strides=((1, 2, 2), (2, 2, 2), (1, 1, 1)))
_LONG = ContrastiveSettings(steps=300, batch=14, positions=512, learning_rate=5e-3, checks=6, encoder=_FINE)
_STRIDED_LATE = EncoderSettings(strides=((1, 1, 1), (1, 2, 2), (2, 2, 2)))
_BEFORE = ContrastiveSettings(
    steps=1, batch=16, positions=48, learning_rate=3e-3, checks=0, encoder=_STRIDED_LATE
)
_COARSE, _VIEW = COARSE_SHAPE, VIEW_SHAPE
SETTINGS = {
    "before": Setting(_COARSE, _BEFORE, crossfit=False),
    "fine": Setting(_VIEW, _LONG),
    "fine, head of training cases": Setting(_VIEW, _LONG, crossfit=False),
    "fine, rate 1e-2": Setting(_VIEW, replace(_LONG, learning_rate=1e-2)),
    "fine, rate 1e-2, 200 steps": Setting(_VIEW, replace(_LONG, learning_rate=1e-2, steps=200)),
    "product": Setting(VIEW_SHAPE, ContrastiveSettings()),
    "coarse, long": Setting(_COARSE, replace(_LONG, encoder=_STRIDED_LATE)),
}


def measure_fold(
    pool: Pool, setting: Setting, fold: int, on_progress: OnShareDone = lambda done: None
) -> dict[str, Any]:
    """Train on the other folds and score this one.

    Returns:
        PMI of the held-out cases, shape (n, P, places), and what the training cost and reached.
    """
    training, held_out = (np.flatnonzero((pool.folds == fold) == held) for held in (False, True))
    contrastive = setting.contrastive
    if contrastive.steps == 1:
        contrastive = replace(contrastive, steps=min(400, max(30, 2 * len(training))))
    start, cores = time.monotonic(), time.process_time()
    cases = pool.views.of_patients(pool.groups)
    trained = train_encoders(
        cases, contrastive, torch.Generator().manual_seed(fold), on_progress, rows=training, held_out=held_out
    )
    cost = {"seconds": time.monotonic() - start, "core_s": time.process_time() - cores}
    matched, chance = matched_share(trained.encoders, cases, held_out)
    dense = embed(trained.encoders, pool.views, held_out, torch.device("cpu"))
    head = GaussianHead.fit(embed(trained.encoders, pool.views, training, torch.device("cpu")))
    heads = {True: _crossfitted(dense, pool.groups[held_out]), False: head.pmi(dense)}
    return {
        **cost,
        "nats": heads[setting.crossfit].numpy(),
        "nats of the other head": heads[not setting.crossfit].numpy(),
        "matched": matched,
        "chance": chance,
        "peak_mb": getrusage(RUSAGE_SELF).ru_maxrss / 1024,
        "by_steps": trained.course.matched,
        "best_steps": trained.course.best_steps,
    }


def _crossfitted(dense: Dense, groups: Rows) -> torch.Tensor:
    """PMI of each case by a head that was fitted to cases of other patients, none of them trained on."""
    part = assign_folds(groups, folds=min(HEADS, len(np.unique(groups))), seed=1)
    nats = torch.full(
        (len(groups), len(dense.pairs()), dense.features.shape[3]), torch.nan, dtype=torch.float64
    )
    for number in np.unique(part):
        head = GaussianHead.fit(dense.of_rows(np.flatnonzero(part != number)))
        rows = np.flatnonzero(part == number)
        nats[rows] = head.pmi(dense.of_rows(rows))
    return nats


def _kept_fold(
    pool: Pool, setting: Setting, fold: int, work: Path, on_progress: OnShareDone
) -> dict[str, Any]:
    """Measure a fold, or read what an earlier run kept of it."""
    mark = zlib.crc32(repr((setting.view, setting.contrastive, pool.folds.tolist(), fold)).encode())
    file = work / f"fold-{mark}.npz"
    if not file.exists():
        found = measure_fold(pool, replace(setting, crossfit=True), fold, on_progress)
        heads = {"crossfit": found.pop("nats"), "training": found.pop("nats of the other head")}
        with replacing(file) as part, part.open("wb") as stream:
            np.savez(
                stream,
                **{name: nats.astype(np.float32) for name, nats in heads.items()},
                about=np.array(json.dumps(found)),
            )
    kept = read_arrays(file)
    nats = kept["crossfit" if setting.crossfit else "training"]
    return {"nats": nats, **json.loads(str(kept["about"]))}


def summary(pool: Pool, setting: Setting, folds: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What all folds together say of a setting."""
    shape = (len(pool.groups), *folds[0]["nats"].shape[1:])
    nats = np.full(shape, np.nan)
    for fold, found in enumerate(folds):
        nats[pool.folds == fold] = found["nats"]
    places = standardise_places(nats, pool.folds)
    stride = setting.contrastive.encoder.stride
    lesion = place_shares(torch.from_numpy(pool.lesion), stride).numpy() >= LESION
    signed = case_difference(places)
    middle, departure = whole_case(signed), departure_of_case(places, place_counts(setting.view, stride))
    return {
        "places": "x".join(str(-(-size // step)) for size, step in zip(setting.view, stride, strict=True)),
        "place, mm": "x".join(
            f"{size:.0f}" for size in np.median(pool.views.voxel_mm, axis=0) * np.array(stride)
        ),
        "matched": np.mean([found["matched"] for found in folds]),
        "chance": np.mean([found["chance"] for found in folds]),
        "AUC raw": _auc(-finite_mean(nats, axis=1), lesion),
        "AUC": _auc(signed, lesion),
        "AUC departure": _auc(departure, lesion),
        "rho mean": _rho(finite_mean(signed, axis=1), pool.volume_ml),
        "rho top": _rho(lesion_focused(signed) - middle, pool.volume_ml),
        "rho departure": _rho(above_whole_case(departure), pool.volume_ml),
        "steps": np.mean([found["best_steps"] for found in folds]),
        "core_s a fold": np.mean([found["core_s"] for found in folds]),
    }


def _auc(values: Array, lesion: NDArray[np.bool_]) -> float:
    """Mean over the cases of the AUC of lesion places against the other places of the case."""
    found = []
    for row, inside in zip(values, lesion, strict=True):
        known = np.isfinite(row)
        if 0 < inside[known].sum() < known.sum():
            found.append(roc_auc_score(inside[known], row[known]))
    return float(np.mean(found)) if found else float("nan")


def _rho(values: Array, volume_ml: Array) -> float:
    known = np.isfinite(values)
    return float(spearmanr(values[known], volume_ml[known]).statistic)


def _by_steps(folds: Sequence[dict[str, Any]]) -> str:
    """Share matched after each number of steps, mean over the folds that got so far."""
    shares: dict[int, list[float]] = {}
    for found in folds:
        for step, share in found["by_steps"].items():
            shares.setdefault(int(step), []).append(share)
    return ", ".join(f"{step}: {np.mean(found):.3f}" for step, found in sorted(shares.items()))


def _measure(pool: Pool, name: str, work: Path, console: Console) -> list[dict[str, Any]]:
    """Every fold of a setting."""
    folds = []
    for fold in range(FOLDS):
        label = f"{name}, fold {fold + 1} of {FOLDS}"
        with progress_bar(console) as tell:
            folds.append(_kept_fold(pool, SETTINGS[name], fold, work, partial(_tell, tell, label)))
        console.print(f"{label}: {_by_steps(folds[-1:])}; {folds[-1]['core_s']:.0f} core-s")
    return folds


def _tell(tell: OnProgress, label: str, done: float) -> None:
    tell(done, label)


def write(rows: list[dict[str, Any]], file: Path = ROWS) -> None:
    """Write the rows of some settings; those of other pools and settings stay."""
    written, others = {(row["pool"], row["setting"]) for row in rows}, []
    if file.exists():
        with file.open(newline="") as stream:
            others = [row for row in csv.DictReader(stream) if (row["pool"], row["setting"]) not in written]
    write_rows(file, sorted([*others, *rows], key=lambda row: str(row["pool"])))


def main(
    pool: Annotated[Path, typer.Argument(help="Folder of labelled patients with two modalities or more.")],
    cases: Annotated[int, typer.Option(help="Largest number of cases.")] = 60,
    settings: Annotated[str, typer.Option(help="Settings, separated by semicolons; all if empty.")] = "",
    work: Annotated[Path | None, typer.Option(help="Folder for what can be resumed.")] = None,
) -> None:
    """Print what each setting sees of the lesions of a pool."""
    names = settings.split(";") if settings else list(SETTINGS)
    if unknown := set(names) - set(SETTINGS):
        raise typer.BadParameter(
            f"--settings must be among {'; '.join(SETTINGS)}; got {'; '.join(sorted(unknown))}."
        )
    console, rows = Console(width=220), []
    torch.set_num_threads(1)
    mark = zlib.crc32(str(pool.resolve()).encode())
    work = work or Path(tempfile.gettempdir()) / f"lesion-visibility-{mark}"
    work.mkdir(parents=True, exist_ok=True)
    for name in names:
        read = read_pool(pool, work, SETTINGS[name].view, cases)
        folds = _measure(read, name, work, console)
        rows.append({
            "pool": pool.name, "setting": name, "cases": len(read.groups),
            **summary(read, SETTINGS[name], folds),
            "peak, MB": max(found["peak_mb"] for found in folds), "matched by steps": _by_steps(folds),
        })  # fmt: skip
        console.print(table_of(rows, "What the modality difference sees of the lesion", digits=3))
        write(rows)


if __name__ == "__main__":
    typer.run(main)
