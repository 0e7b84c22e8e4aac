"""The tables of the comparison with fusion, from its rows alone."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.ciml.fusion_rows import CONTRIBUTION, MISSING, RUNS, Row, Rows
from benchmarks.ciml.methods import METHODS
from benchmarks.ciml.silencing import ALL
from benchmarks.common.paired import (
    Interval,
    Name,
    Values,
    difference,
    holm,
    mean_interval,
    probability,
    spearman_interval,
)
from benchmarks.common.patients import SETTINGS

OURS, ANY = "ciml", "all but one, mean"
ByPatient = dict[str, float]
BySeed = dict[str, ByPatient]


def print_report(rows: Rows, console: Console, *, split: str) -> None:
    """Print every table, for each schedule in the rows.

    Args:
        rows: Rows of the finished runs.
        console: Console to print on.
        split: `test` or `inner`.
    """
    runs = [row for row in rows.read(RUNS) if row["split"] == split]
    for settings in dict.fromkeys(row["settings"] for row in runs):
        of = [row for row in runs if row["settings"] == settings]
        missing = _chosen(rows.read(MISSING), split, settings)
        messages = _chosen(rows.read(CONTRIBUTION), split, settings)
        console.rule(f"{split}: {_schedule(settings)}")
        for setting in (each for each in SETTINGS if any(row["setting"] == each for row in of)):
            mine = [row for row in of if row["setting"] in (setting, "")]
            console.print(comparison_table(setting, mine))
            console.print(missing_table(setting, [row for row in missing if row["setting"] == setting]))
            heard = [row for row in messages if row["setting"] == setting]
            if heard:
                console.print(loss_table(setting, heard))
                console.print(prediction_table(setting, heard))
    console.print(
        "Square brackets: 95 % interval, seeds and patients resampled. p: Holm's, for all differences of a "
        "table. Distances: an empty outline counts as the volume's diagonal. CIML as reconstructed from its "
        "abstract."
    )


def comparison_table(setting: str, rows: list[Row]) -> Table:
    """One row per method, with the difference of CIML's Dice to it."""
    table = Table(title=f"{setting}: outlines of the patients kept for the test", title_justify="left")
    for column in (
        "method", "seeds", "parameters", "GMAC per patch", "s per step", "Dice", "CIML's Dice minus this",
        "surface distance, mm", "Hausdorff 95 %, mm",
    ):  # fmt: skip
        table.add_column(column, justify="left" if column == "method" else "right")
    ours = _by_seed([row for row in rows if row["method"] == OURS], "dice")
    by_method = {method: [row for row in rows if row["method"] == method] for method in _in_order(rows)}
    networks = {method for method, of in by_method.items() if of[0]["setting"]}
    dice = {method: _by_seed(of, "dice") for method, of in by_method.items()}
    paired = {  # the oracle's outlines are the same beside every seed
        method: (
            ours,
            scores if method in networks else {seed: by_method[method][0]["dice"] for seed in ours},
        )
        for method, scores in dice.items()
        if method != OURS
    }
    less = _differences(paired)
    for method, of in by_method.items():
        trained = method in networks
        table.add_row(
            method,
            str(len(of)) if trained else "-",
            f"{int(of[0]['parameters']):,}" if trained else "-",
            of[0]["gmac"] if trained else "-",
            f"{np.mean([float(row['step_s']) for row in of]):.2f}" if trained else "-",
            str(mean_interval(_array(dice[method]))),
            less.get(method, "-"),
            *(
                str(mean_interval(_array(_by_seed(of, measure)))) if trained else "-"
                for measure in ("surface_distance", "hausdorff95")
            ),
        )
    return table


def missing_table(setting: str, rows: list[Row]) -> Table:
    """Dice of each method with every choice of modalities, the loss, and CIML's loss minus each other loss.

    A further row has the mean over the choices that lack one modality.
    """
    methods = _in_order(rows)
    table = Table(title=f"{setting}: some modalities absent", title_justify="left")
    for column in (
        "present", *(f"Dice, {method}" for method in methods), *(f"lost, {method}" for method in methods),
        *(f"lost, {OURS} minus {method}" for method in methods if method != OURS),
    ):  # fmt: skip
        table.add_column(column, justify="left" if column == "present" else "right")
    choices = list(dict.fromkeys(row["modalities"] for row in rows))
    found = {
        (method, choice): _by_seed(
            [row for row in rows if (row["method"], row["modalities"]) == (method, choice)], "dice"
        )
        for method in methods
        for choice in choices
    }
    whole = max(choice.count("+") for choice in choices)
    without_one = [choice for choice in choices if choice.count("+") == whole - 1]
    found |= {(method, ANY): _mean([found[method, each] for each in without_one]) for method in methods}
    rivals = [method for method in methods if method != OURS]
    lost = {
        (method, choice): _less(found[method, choices[0]], found[method, choice])
        for method in methods
        for choice in (*choices, ANY)
    }
    less = _differences(
        {
            (rival, choice): (lost[OURS, choice], lost[rival, choice])
            for rival in rivals
            for choice in (*choices[1:], ANY)
            if OURS in methods
        }
    )
    for choice in (*choices, ANY):
        table.add_row(
            choice,
            *(str(mean_interval(_array(found[method, choice]))) for method in methods),
            *(_signed(mean_interval(_array(lost[method, choice]))) for method in methods),
            *(less.get((rival, choice), "-") for rival in rivals),
        )
    return table


def loss_table(setting: str, rows: list[Row]) -> Table:
    """Loss of Dice when the messages of a sender are left out."""
    table = Table(title=f"{setting}: Dice lost when messages are left out", title_justify="left")
    for column in ("sender", "subtask", "loss of the average", "loss of the subtask's own outline"):
        table.add_column(column)
    for sender, subtask in dict.fromkeys((row["sender"], row["subtask"]) for row in rows):
        of = [row for row in rows if (row["sender"], row["subtask"]) == (sender, subtask)]
        own = "-" if subtask == ALL else str(mean_interval(_cube(of, "subtask_loss")[:, :, 0]))
        table.add_row(sender, subtask, str(mean_interval(_cube(of, "loss")[:, :, 0])), own)
    return table


def prediction_table(setting: str, rows: list[Row]) -> Table:
    """Spearman's correlation of each measure of contribution with the loss of Dice."""
    table = Table(
        title=f"{setting}: Spearman of contribution and loss of Dice, over patients and ...",
        title_justify="left",
    )
    for column in (
        "measure", "senders, loss of the average", "messages, loss of the average",
        "messages, loss of the subtask's own", "within a message, loss of the subtask's own",
    ):  # fmt: skip
        table.add_column(column)
    senders = [row for row in rows if row["subtask"] == ALL]
    messages = [row for row in rows if row["subtask"] != ALL]
    for measure in rows[0]["contributions"]:
        own = _cube(messages, "subtask_loss")
        said = _cube(messages, measure)
        table.add_row(
            measure,
            str(spearman_interval(_cube(senders, measure), _cube(senders, "loss"))),
            str(spearman_interval(said, _cube(messages, "loss"))),
            str(spearman_interval(said, own)),
            _within(said, own),
        )
    return table


def _in_order(rows: Iterable[Row]) -> list[str]:
    """Methods in the rows: those of `METHODS` in its order, then the others."""
    found = dict.fromkeys(row["method"] for row in rows)
    return [*(name for name in METHODS if name in found), *(name for name in found if name not in METHODS)]


def _within(said: Values, own: Values) -> str:
    """Mean over messages of the correlation over patients; differences between senders do not count in it."""
    each = [
        spearman_interval(said[:, :, [link]], own[:, :, [link]], draws=1).mean
        for link in range(said.shape[-1])
    ]
    return f"{np.nanmean(each):.3f}" if np.isfinite(each).any() else "-"


def _cube(rows: Iterable[Row], column: str) -> NDArray[np.float64]:
    """A column, or a measure of contribution, shape (S, P, L): seeds, patients, links."""
    values = {
        (row["seed"], row["patient"], (row["sender"], row["subtask"])): float(
            row["contributions"][column] if column in row["contributions"] else row[column]
        )
        for row in rows
    }
    seeds, patients, links = (sorted({key[axis] for key in values}) for axis in range(3))
    return np.array([[[values[s, p, link] for link in links] for p in patients] for s in seeds])


def _by_seed(rows: Iterable[Row], measure: str) -> BySeed:
    return {row["seed"]: row[measure] for row in rows}


def _differences(sides: Mapping[Name, tuple[BySeed, BySeed]]) -> dict[Name, str]:
    """First less second of each comparison with both sides, with Holm's p for all of them."""
    found = {
        name: difference(_array(first), _array(second))
        for name, (first, second) in sides.items()
        if first and second
    }
    adjusted = holm({name: each.p for name, each in found.items()})
    return {name: f"{each}, {probability(adjusted[name])}" for name, each in found.items()}


def _mean(scores: Sequence[BySeed]) -> BySeed:
    return {
        seed: {patient: float(np.mean([each[seed][patient] for each in scores])) for patient in by_patient}
        for seed, by_patient in scores[0].items()
    }


def _less(first: BySeed, second: BySeed) -> BySeed:
    return {
        seed: {patient: score - second[seed][patient] for patient, score in first[seed].items()}
        for seed in first
        if seed in second
    }


def _array(scores: Mapping[str, ByPatient]) -> Values:
    """Scores of each seed and patient, shape (S, P), patients in the order of their ids."""
    return np.array([[by_patient[id] for id in sorted(by_patient)] for by_patient in scores.values()])


def _signed(interval: Interval) -> str:
    return f"{interval.mean:+.3f} [{interval.low:+.3f}, {interval.high:+.3f}]"


def _chosen(rows: list[Row], split: str, settings: str) -> list[Row]:
    return [row for row in rows if (row["split"], row["settings"]) == (split, settings)]


def _schedule(settings: str) -> str:
    training, network = (json.loads(settings)[part] for part in ("training", "network"))
    return (
        f"{training['epochs'] * training['steps_per_epoch']} steps of {training['batch_size']} patches "
        f"{training['roi_size']}, learning rate {training['learning_rate']}, beta {training['beta']}, "
        f"modality dropout {training['modality_dropout']}, CIML's channels {network['channels']}"
    )
