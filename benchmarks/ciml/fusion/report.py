"""The report of the comparison, as Markdown, from the rows alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np

from benchmarks.ciml.fusion.protocol import Protocol
from benchmarks.ciml.fusion.rows import RUNS, TRIALS, Outlined, Rows, outlined
from benchmarks.common.growing_rows import Read
from benchmarks.common.paired import (
    Difference,
    Values,
    difference,
    holm,
    mean_interval,
    over_splits,
    probability,
)
from benchmarks.common.tables import markdown_table

OURS, NONE = "ciml", "-"
BySeed = dict[int, dict[str, float]]  # value of each patient
Wanted = Callable[[tuple[str, ...]], bool]  # whether a choice of modalities counts
_ONE = (
    "Square brackets: 95 % interval, seeds and patients resampled, the patients of both sides together, with "
    "the variance of few seeds corrected."
)
_SEVERAL = (
    "Square brackets: 95 % interval by Student's distribution over the divisions of the pool, paired, with "
    "the correction of Nadeau and Bengio for the patients that divisions share."
)
_READING = (
    "Dice is the mean over the regions and the patients; a region that is in neither outline counts 1, one "
    "that is in one of them alone counts 0. p is Holm's, over the differences of its table. CIML as "
    "reconstructed from its abstract."
)


@dataclass(frozen=True)
class Results:
    """The rows of a comparison.

    Attributes:
        protocol: Protocol of the comparison.
        runs: Rows of the finished runs.
        trials: Rows of the tuning.
        outlines: Scores of all outlines.
    """

    protocol: Protocol
    runs: Read
    trials: Read
    outlines: tuple[Outlined, ...]

    @classmethod
    def read(cls, rows: Rows, protocol: Protocol) -> Results:
        """Read the files of a folder."""
        return cls(protocol, rows.read(RUNS), rows.read(TRIALS), tuple(outlined(rows)))

    @cached_property
    def modalities(self) -> tuple[str, ...]:
        """All modalities."""
        return max((each.modalities for each in self.outlines), key=len)

    @cached_property
    def methods(self) -> list[str]:
        """Methods with a finished run, in the order of the protocol."""
        found = {each.method for each in self.outlines}
        return [method for method in self.protocol.methods if method in found]

    def values(self, method: str, labels: int, wanted: Wanted, region: int | None = None) -> BySeed:
        """Dice of each patient, averaged over the wanted choices of modalities and over the regions.

        Args:
            method: Method of the runs.
            labels: Number of labels of the runs.
            wanted: Whether a choice of modalities counts.
            region: The region that counts; all when None.
        """
        gathered: dict[int, dict[str, list[float]]] = {}
        for each in self.outlines:
            if (each.method, each.labels) == (method, labels) and wanted(each.modalities):
                of_seed = gathered.setdefault(each.seed, {})
                for patient, scores in each.dice.items():
                    score = float(np.mean(scores)) if region is None else scores[region]
                    of_seed.setdefault(patient, []).append(score)
        return {
            seed: {patient: float(np.mean(scores)) for patient, scores in of.items()}
            for seed, of in gathered.items()
        }

    def complete(self, choice: tuple[str, ...]) -> bool:
        """Whether every modality is there."""
        return len(choice) == len(self.modalities)

    def without_one(self, choice: tuple[str, ...]) -> bool:
        """Whether exactly one modality is missing."""
        return len(choice) == len(self.modalities) - 1

    def less(self, ours: BySeed, theirs: BySeed) -> Difference | None:
        """Our values less theirs, over the seeds that both have; None with fewer than two."""
        seeds = sorted(ours.keys() & theirs.keys())
        if len(seeds) < 2:
            return None
        if self.protocol.splits == 1:
            return difference(*(_array([of[seed] for seed in seeds]) for of in (ours, theirs)))
        means = [np.mean(list(ours[seed].values())) - np.mean(list(theirs[seed].values())) for seed in seeds]
        tested = len(ours[seeds[0]])
        return over_splits(np.array(means), overlap=tested / int(self.runs[0]["candidates"]))

    def said(self, values: BySeed) -> str:
        """Mean with its interval; the mean alone of several divisions, which differ in their patients."""
        if not values:
            return NONE
        if self.protocol.splits == 1:
            return str(mean_interval(_array(values.values())))
        return f"{np.mean([np.mean(list(of.values())) for of in values.values()]):.3f}"


def markdown(results: Results) -> str:
    """Every table with its heading."""
    protocol, at = results.protocol, results.protocol.primary_labels
    parts = [
        f"# {protocol.name}",
        f"Primary end point, written before the runs: {protocol.primary_end_point}",
        *(f"- {note}" for note in protocol.notes),
        *(f"- Left out: {id}, {why}" for id, why in protocol.without.items()),
        f"{_ONE if protocol.splits == 1 else _SEVERAL} {_READING}",
    ]
    if results.outlines:
        parts += [
            f"## Primary: one modality missing, {at} labels",
            comparison(results, at, results.without_one),
            f"## Secondary: all modalities, {at} labels",
            comparison(results, at, results.complete),
            "## One modality missing, by labels",
            by_labels(results, results.without_one),
            "## All modalities, by labels",
            by_labels(results, results.complete),
            f"## Regions, all modalities, {at} labels",
            by_region(results, at),
            f"## Every choice of modalities, {at} labels",
            by_choice(results, at),
            "## What was run",
            what_was_run(results),
        ]
    if results.trials:
        parts += ["## Trials", trials(results)]
    return "\n\n".join(part.rstrip() for part in parts) + "\n"


def comparison(results: Results, labels: int, wanted: Wanted) -> str:
    """Dice of each method, and CIML's less it."""
    values = {method: results.values(method, labels, wanted) for method in results.methods}
    less = {
        method: found
        for method in results.methods
        if method != OURS and (found := results.less(values.get(OURS, {}), values[method])) is not None
    }
    adjusted = holm({method: found.p for method, found in less.items()})
    return markdown_table(
        ["method", "seeds", "Dice", "CIML less this", "Holm"],
        (
            [
                method,
                str(len(of)),
                results.said(of),
                str(less[method]) if method in less else NONE,
                probability(adjusted[method]) if method in less else NONE,
            ]
            for method, of in values.items()
        ),
    )


def by_labels(results: Results, wanted: Wanted) -> str:
    """Mean Dice of each method and number of labels."""
    of = {f"{labels} labels": partial(_values, results, labels, wanted) for labels in results.protocol.labels}
    return _means(results, of)


def by_region(results: Results, labels: int) -> str:
    """Mean Dice of each method and region, in the order of the decomposition."""
    count = len(next(iter(results.outlines[0].dice.values())))
    of = {
        f"region {region + 1}": partial(_values, results, labels, results.complete, region=region)
        for region in range(count)
    }
    return _means(results, of)


def by_choice(results: Results, labels: int) -> str:
    """Mean Dice of each method and choice of modalities."""
    choices = list(dict.fromkeys(each.modalities for each in results.outlines))
    rows = (
        [
            " ".join(choice),
            *(_mean(_values(results, labels, choice.__eq__, method)) for method in results.methods),
        ]
        for choice in choices
    )
    return markdown_table(["present", *results.methods], rows)


def what_was_run(results: Results) -> str:
    """Schedule, size and time of each method, and how many of its runs are finished."""
    rows = []
    for method in results.methods:
        of = [row for row in results.runs if row["method"] == method]
        rows.append(
            [
                method,
                f"{len(of)} of {results.protocol.seeds * len(results.protocol.labels)}",
                of[0]["learning_rate"],
                of[0]["steps"],
                f"{int(of[0]['parameters']):,}",
                of[0]["gmac"],
                f"{np.mean([float(row['step_s']) for row in of]):.2f}",
            ]
        )
    header = ["method", "runs", "learning rate", "steps", "parameters", "GMAC a patch", "s a step"]
    return markdown_table(header, rows)


def trials(results: Results) -> str:
    """Dice of the candidates in each trial, mean of all modalities and of one missing; the best is bold."""
    kinds = list(dict.fromkeys((row["learning_rate"], row["steps"]) for row in results.trials))
    rows = []
    for method in dict.fromkeys(row["method"] for row in results.trials):
        of = {
            (row["learning_rate"], row["steps"]): (float(row["dice"]) + float(row["dice_without_one"])) / 2
            for row in results.trials
            if row["method"] == method
        }
        best = max(of, key=lambda kind: of[kind])
        rows.append(
            [
                method,
                *(
                    NONE if kind not in of else f"**{of[kind]:.3f}**" if kind == best else f"{of[kind]:.3f}"
                    for kind in kinds
                ),
            ]
        )
    return markdown_table(["method", *(f"{rate}, {steps} steps" for rate, steps in kinds)], rows)


def _means(results: Results, of: Mapping[str, Callable[[str], BySeed]]) -> str:
    rows = ([method, *(_mean(values(method)) for values in of.values())] for method in results.methods)
    return markdown_table(["method", *of], rows)


def _values(
    results: Results, labels: int, wanted: Wanted, method: str, *, region: int | None = None
) -> BySeed:
    return results.values(method, labels, wanted, region)


def _mean(values: BySeed) -> str:
    return f"{np.mean([np.mean(list(of.values())) for of in values.values()]):.3f}" if values else NONE


def _array(scores: Iterable[dict[str, float]]) -> Values:
    """Values of each seed and patient, shape (S, P), patients in the order of their ids."""
    return np.array([[by_patient[id] for id in sorted(by_patient)] for by_patient in scores])
