"""Gates that judge whether to trust a scoring: figures with limits and a sentence for the reader."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.stats import kruskal, spearmanr

from lib.mdal.scoring.pmi import Array

MATCHED_ABOVE_CHANCE = 0.1  # of the way from chance to perfect; below it the encoders learnt nothing
MATCHED_PERFECT = 0.98  # above it the encoders found a shortcut: outline, grid or scanner
SEEDS_AGREE = 0.6
RISE = {"exchanged": 0.8, "shifted": 0.6, "erased": 0.6}  # share of cases whose difference must rise
FOLLOWS = 0.5  # correlation above which the modality difference may measure the other quantity
PLACE_EXPLAINS = 0.3  # of the variance; generated gliomas have 0.67, sarcomas of any part 0.06 to 0.17
PLACE_GATE = "place_tells"
RATIO_NATS = 0.7  # a log mean ratio beyond a factor of 2: scores in nats are only ranks


@dataclass(frozen=True)
class Gate:
    """One figure, its limit and a sentence.

    Attributes:
        name: Name of the gate.
        value: Figure; None if it could not be computed.
        limit: Limit of the figure, in words.
        passed: Whether the figure is within the limit; None if it could not be computed.
        sentence: Result in words.
        of_the_order: Whether the order of the cases depends on the gate; if not, the gate only says how to
            read a figure.
    """

    name: str
    value: float | None
    limit: str
    passed: bool | None
    sentence: str
    of_the_order: bool = True


def make_gate(name: str, value: float, passes: bool, limit: str, good: str, bad: str) -> Gate:
    """Make a gate from a figure that may be NaN."""
    if not math.isfinite(value):
        return Gate(
            name,
            None,
            limit,
            None,
            f"{name.replace('_', ' ').capitalize()} could not be computed on this pool.",
        )
    return Gate(name, float(value), limit, bool(passes), good if passes else bad)


def retrieval_gate(matched: float, chance: float, ended: str) -> Gate:
    """Check that held-out modalities are matched better than by chance, but not perfectly.

    Args:
        matched: Share of the places of unseen patients whose own counterpart is found among all patients.
        chance: Share by chance.
        ended: When and why the trainings ended, without a full stop.
    """
    above = (matched - chance) / (1 - chance) if chance < 1 else math.nan
    figures = (
        f"{matched:.0%} of unseen patients' places are matched across modalities, {chance:.0%} by chance"
    )
    shortcut = matched > MATCHED_PERFECT
    return make_gate(
        "retrieval", matched if math.isfinite(above) else math.nan,
        above >= MATCHED_ABOVE_CHANCE and not shortcut,
        f"at least {MATCHED_ABOVE_CHANCE:.0%} of the way from chance to 100 %, at most {MATCHED_PERFECT:.0%}",
        f"{figures}. {ended}.",
        f"{figures}: the encoders found a shortcut rather than content. {ended}."
        if shortcut
        else f"{figures}: too little was learnt. {ended}. Add studies.",
    )  # fmt: skip


def seeds_gate(by_seed: list[Array]) -> Gate:
    """Check that trainings from different seeds rank the cases alike."""
    found = [
        float(spearmanr(a, b).statistic)
        for place, a in enumerate(by_seed)
        for b in by_seed[:place]
        if np.ptp(a) and np.ptp(b)
    ]
    value = float(np.mean(found)) if found else math.nan
    return make_gate(
        "seed_agreement", value, value >= SEEDS_AGREE, f"Spearman at least {SEEDS_AGREE}",
        f"Trainings from different seeds rank the cases alike (Spearman {value:.2f}).",
        f"Trainings from different seeds disagree (Spearman {value:.2f}, {SEEDS_AGREE - value:.2f} below the "
        "limit): the order is partly chance. Raise repeats or add studies.",
    )  # fmt: skip


def memory_gate(in_sample: float, out_of_fold: float, spread: float) -> Gate:
    """Check how much higher training cases score than unseen ones; out-of-fold scoring avoids this bias."""
    gap = in_sample - out_of_fold
    gate = make_gate(
        "in_sample_gap_nats", gap, gap <= 2 * spread, "at most twice the cases' own spread",
        f"Training cases score {gap:.2f} nats more than unseen ones; only unseen ones are ranked.",
        f"Training cases score {gap:.2f} nats more than unseen ones, whose spread is {spread:.2f}: the "
        "models know the training cases by heart. Unseen ones are scored by a head that was fitted to unseen "
        "ones, so their order is not affected.",
    )  # fmt: skip
    return replace(gate, of_the_order=False)


def rise_gate(kind: str, rise: NDArray[np.float64]) -> Gate:
    """Check that the modality difference rises when a case is damaged on purpose."""
    known = rise[np.isfinite(rise)]
    share = float((known > 0).mean()) if len(known) else math.nan
    what = {
        "exchanged": "a modality is exchanged with another patient's",
        "shifted": "a modality is shifted by 5 mm, beyond blur alone and a shift of all modalities",
        "erased": "the most conspicuous place is erased from a modality",
    }[kind]
    of = "the places that differ most" if kind == "erased" else "the whole case"
    return make_gate(
        f"rises_when_{kind}", share, share >= RISE[kind], f"in at least {RISE[kind]:.0%} of the cases",
        f"The difference of {of} rises in {share:.0%} of the cases when {what}.",
        f"The difference of {of} rises in only {share:.0%} of the cases when {what}: it misses this damage.",
    )  # fmt: skip


def nats_gate(log_mean_ratio: float) -> Gate:
    """Check that the mean of exp PMI over exchanged pairs is near 1, as it is for log density ratios."""
    gate = make_gate(
        "nats_calibrated", log_mean_ratio, abs(log_mean_ratio) <= RATIO_NATS, f"within {RATIO_NATS} of 0",
        "Scores in nats may be read as such.",
        f"Scores in nats are an order only: their scale is off (log mean ratio {log_mean_ratio:+.1f}).",
    )  # fmt: skip
    return replace(gate, of_the_order=False)


def place_gate(explained: float) -> Gate:
    """Check that a place is the same part of the body in every case, so that cases compare by place."""
    figure = f"The place explains {explained:.0%} of how bright an image is there"
    gate = make_gate(
        PLACE_GATE, explained, explained >= PLACE_EXPLAINS, f"at least {PLACE_EXPLAINS:.0%}",
        f"{figure}: what is unlike the same place in others is conspicuous.",
        f"{figure}: cases show different parts of the body, so what is conspicuous in them cannot be told, "
        "and the order `representative` is a random one, with likely damaged scans last.",
    )  # fmt: skip
    return replace(gate, of_the_order=False)


def follows_gates(difference: Array, measured: Mapping[str, Array]) -> list[Gate]:
    """Check that the modality difference does not merely follow something simpler.

    Args:
        difference: Modality difference, shape (N,).
        measured: Name -> measurement of each case, shape (N,); NaN where unknown.
    """
    gates = []
    for name, values in measured.items():
        known = np.isfinite(values)
        value = math.nan
        if known.sum() >= 5 and np.ptp(values[known]) and np.ptp(difference[known]):
            value = float(spearmanr(values[known], difference[known]).statistic)
        gates.append(_follows(name, value))
    return gates


def protocol_gate(difference: Array, spacing: Array) -> Gate:
    """Check that the modality difference does not follow the protocol, known by the reference's voxel size.

    Args:
        difference: Modality difference, shape (N,).
        spacing: Voxel size of the reference in mm, shape (N, 3).
    """
    groups = np.unique(spacing.round(2), axis=0, return_inverse=True)[1].ravel()
    sizes = np.bincount(groups)
    large = [difference[groups == group] for group in np.flatnonzero(sizes >= 3)]
    value = math.nan
    if len(large) >= 2 and np.ptp(np.concatenate(large)):
        statistic, count = float(kruskal(*large).statistic), sum(map(len, large))
        explained = (statistic - len(large) + 1) / (count - len(large)) if count > len(large) else math.nan
        value = math.sqrt(max(0.0, explained)) if math.isfinite(explained) else math.nan
    return _follows("protocol (by voxel size)", value)


def _follows(name: str, value: float) -> Gate:
    return make_gate(
        f"follows {name}", value, abs(value) <= FOLLOWS, f"correlation at most {FOLLOWS}",
        f"The difference does not follow {name} (correlation {value:+.2f}).",
        f"The difference follows {name} (correlation {value:+.2f}): it may measure that instead.",
    )  # fmt: skip
