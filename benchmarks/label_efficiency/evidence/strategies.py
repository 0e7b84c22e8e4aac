"""The strategies that are compared: the app's, and controls that only a study needs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.random import Generator
from scipy.stats import rankdata

from benchmarks.common.rival_orders import ORDERS, largest_cluster_first, neighbour_distance
from benchmarks.common.rival_orders import TITLES as ORDER_TITLES
from benchmarks.label_efficiency.evidence.scores import Knowledge
from lib.mdal.selection.candidates import Candidates, damage_last, planned, turns
from lib.mdal.selection.clusters import find_clusters
from lib.mdal.selection.facility_location import representative
from lib.mdal.selection.strategies import diverse_md, max_md

Strategy = Callable[[Knowledge, int, Generator], list[str]]
FULL = "all candidates"
EQUAL = "uniform_as_"  # before the name of the strategy whose foreground voxels Random is given


def permuted(knowledge: Knowledge, budget: int, generator: Generator) -> list[str]:
    """MaxMD by differences that are permuted among the cases; it must perform like chance."""
    return max_md(_permuted(knowledge.candidates, generator), budget, generator)


def in_sample(knowledge: Knowledge, budget: int, generator: Generator) -> list[str]:
    """MaxMD by the differences of models that were trained on the cases they score."""
    return max_md(knowledge.with_difference(NEEDED_SCORES["in_sample"]), budget, generator)


def random_encoder(knowledge: Knowledge, budget: int, generator: Generator) -> list[str]:
    """MaxMD by the differences of untrained encoders."""
    return max_md(knowledge.with_difference(NEEDED_SCORES["random_encoder"]), budget, generator)


def cmc(knowledge: Knowledge, budget: int, generator: Generator) -> list[str]:
    """MaxMD by one vector a modality and case, likely damaged cases last."""
    return damage_last(max_md)(knowledge.with_difference(NEEDED_SCORES["cmc"]), budget, generator)


def cscs(knowledge: Knowledge, budget: int, generator: Generator) -> list[str]:
    """CSCS: of each of K = budget clusters the case that is typical and hard to reconstruct.

    score_i = t_i^(1 - w) d_i^w,  w = (budget / N)^(1 / DCR)

    t_i and d_i are the ranks, from 1 / N to 1, of how typical case i is and of how badly it is reconstructed.
    DCR is the mean difficulty of the more typical half of the pool over that of the other half. So few labels
    go to typical cases and many to hard ones, sooner if typical cases are hard too.

    Source: arXiv 2606.20765, reconstructed from its abstract, which names the two signals, the geometric
    score, the ratio and that w follows from the budget and the ratio; the formulas are ours.
    """
    pool = knowledge.with_difference(NEEDED_SCORES["cscs"]).by_id()
    count = planned(pool, budget)
    typical = rankdata(-neighbour_distance(pool.features, generator)) / len(pool)
    hard = rankdata(pool.difference) / len(pool)
    ratio = hard[typical > 0.5].mean() / hard[typical <= 0.5].mean()
    weight = (count / len(pool)) ** (1.0 / ratio)
    clusters = find_clusters(pool.features, count, generator)
    return pool.named(largest_cluster_first(clusters, typical ** (1.0 - weight) * hard**weight))


def diverse_random(knowledge: Knowledge, budget: int, generator: Generator) -> list[str]:
    """DiverseMD's clusters, with a random member of each.

    A separate generator permutes the differences, so that the clusters are those of DiverseMD with the same
    seed.
    """
    dealt = _permuted(knowledge.candidates, generator.spawn(1)[0])
    return diverse_md(dealt, budget, generator)


def diverse_min(knowledge: Knowledge, budget: int, generator: Generator) -> list[str]:
    """DiverseMD's clusters, with the member of smallest difference of each."""
    candidates = knowledge.candidates
    return diverse_md(replace(candidates, difference=-candidates.difference), budget, generator)


def kmeans_of_look(knowledge: Knowledge, budget: int, generator: Generator) -> list[str]:
    """k-means centres by the appearance of the conspicuous places; cases of extreme difference come last."""
    look = knowledge.candidates.matrices()["saliency_features"]
    return ORDERS["kmeans"](replace(knowledge.candidates, features=look), budget, generator)


def representative_everywhere(knowledge: Knowledge, budget: int, generator: Generator) -> list[str]:
    """`representative` as first settled, even if a place is another part of the body in each case."""
    return damage_last(representative)(replace(knowledge.candidates, aligned=True), budget, generator)


def facility(knowledge: Knowledge, budget: int, generator: Generator) -> list[str]:
    """Cases that represent many others by the features of the scans, without any weights."""
    candidates = replace(knowledge.candidates, aligned=True, saliency_features=None)
    return damage_last(partial(representative, salient=0.0, atypical=0.0))(candidates, budget, generator)


def representative_by_features(knowledge: Knowledge, budget: int, generator: Generator) -> list[str]:
    """`representative` by the features of the scans instead of the appearance of the conspicuous places."""
    return damage_last(representative)(
        replace(knowledge.candidates, saliency_features=None), budget, generator
    )


def _representative(knowledge: Knowledge, budget: int, generator: Generator, **weights: float) -> list[str]:
    def order(candidates: Candidates, budget: int, generator: Generator) -> list[str]:
        return representative(candidates, budget, generator, **weights)

    return damage_last(order)(knowledge.candidates, budget, generator)


def oracle(knowledge: Knowledge, budget: int, generator: Generator) -> list[str]:
    """Random undamaged cases of each kind of lesion in turn; it uses the truth, which no user has.

    Raises:
        ValueError: If no truth is known.
    """
    ids = [id for id in sorted(knowledge.candidates.ids) if id in knowledge.sound_kinds]
    if not ids:
        raise ValueError(
            "oracle must know the kind of each lesion; the pool's truth.csv says none. Leave oracle out."
        )
    group = np.unique([knowledge.sound_kinds[id] for id in ids], return_inverse=True)[1]
    drawn = generator.permutation(len(ids))
    turn = turns(group, drawn)
    return [ids[row] for row in drawn[np.argsort(turn[drawn], kind="stable")]]


CONTROLS: dict[str, Strategy] = {
    "permuted": permuted,
    "in_sample": in_sample,
    "random_encoder": random_encoder,
    "cmc": cmc,
    "cscs": cscs,
    "diversemd_random": diverse_random,
    "diversemd_min": diverse_min,
    "kmeans_look": kmeans_of_look,
    "representative_everywhere": representative_everywhere,
    "facility": facility,
    "representative_features": representative_by_features,
    "representative_no_striking": partial(_representative, salient=0.0),
    "representative_no_unusual": partial(_representative, atypical=0.0),
    "representative_md": partial(_representative, difference=0.5),
    "oracle": oracle,
}
NEEDED_SCORES = {
    "in_sample": "in_sample", "random_encoder": "random_encoder", "cmc": "cmc", "cscs": "reconstruction"
}  # fmt: skip
"""Control's name -> the score of `CONTROL_SCORES` that it chooses by."""
TITLES: dict[str, str] = {
    **ORDER_TITLES,
    "permuted": "MaxMD of permuted differences",
    "in_sample": "MaxMD by models that saw the cases",
    "random_encoder": "MaxMD by untrained encoders",
    "cmc": "MaxMD by one vector a modality and case (CMC), in sample, likely damaged cases last",
    "cscs": "CSCS, from its abstract: in each group a typical case that is hard to reconstruct",
    "diversemd_random": "DiverseMD's clusters, a random member of each",
    "diversemd_min": "DiverseMD's clusters, the member of smallest difference",
    "mdal_usual": "MaxMD, cases of extreme difference last",
    "diversemd_usual": "DiverseMD, cases of extreme difference last",
    "kmeans_look": "k-means centres by how the conspicuous places look, cases of extreme difference last",
    "representative_everywhere": "`representative` as first settled: weighted also where places tell nothing",
    "facility": "cases that stand for many others, by the features, cases of extreme difference last",
    "representative_features": "`representative` by the features of the scans",
    "representative_no_striking": "`representative` without weighing how much is striking",
    "representative_no_unusual": "`representative` without weighing how unusual a case looks",
    "representative_md": "`representative`, also weighing the difference",
    "oracle": "One of each kind of lesion in turn, none damaged, by the truth: out of reach",
}


def choose(strategy: str, knowledge: Knowledge, *, budget: int, seed: int) -> list[str]:
    """Ids of the cases that a strategy labels, best first.

    `kmeans` takes the member nearest the centre of the same clusters that `diversemd` makes with this seed.

    Args:
        strategy: Key of `ORDERS` or `CONTROLS`.
        knowledge: Knowledge of the candidates.
        budget: Number of cases to label.
        seed: Seed of the strategy's random draws.

    Raises:
        ValueError: If there is no such strategy.
    """
    generator = np.random.default_rng(seed)
    if strategy in ORDERS:
        return ORDERS[strategy](knowledge.candidates, budget, generator)[:budget]
    if strategy in CONTROLS:
        return CONTROLS[strategy](knowledge, budget, generator)[:budget]
    raise ValueError(f"strategy must be one of {', '.join((*ORDERS, *CONTROLS))}; got {strategy!r}.")


def _permuted(candidates: Candidates, generator: Generator) -> Candidates:
    by_id = candidates.by_id()  # so that the pool's order does not matter
    return replace(by_id, difference=generator.permutation(by_id.difference))
