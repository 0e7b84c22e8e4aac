"""A study of label efficiency with made-up settings and scores."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from benchmarks.label_efficiency.evidence.control_scores import CONTROL_SCORES
from benchmarks.label_efficiency.evidence.protocol import Protocol
from benchmarks.label_efficiency.evidence.scores import Knowledge
from tests.support.candidate_pools import pool as candidate_pool

SETTINGS: dict[str, Any] = {
    "name": "made up",
    "modalities": ["CT", "MR_T1"],
    "without": {"p09": "it is the last"},
    "test": 2,
    "budgets": [2, 4],
    "full_seeds": 1,
    "arms": [{"check": True, "seeds": {"uniform": 4, "kmeans": 2, "mdal": 2}}],
    "questions": [["mdal", "uniform"]],
    "hypothesis_budget": 2,
    "segmenter": {"steps": 2, "roi_size": [8, 16, 16], "learning_rate": 0.003},
    "headroom": {"ask": 1, "sizes": [2]},
    "primary_end_point": "the area",
}


def protocol(**changes: object) -> Protocol:
    return Protocol.model_validate({**SETTINGS, **changes})


def knowledge(count: int = 40) -> Knowledge:
    random = np.random.default_rng(1)
    differences = {name: random.normal(size=count) for name in CONTROL_SCORES}
    look = random.normal(size=(count, 3)).astype(np.float32)
    candidates = replace(candidate_pool(count), saliency_features=look)
    kinds = {id: "rare" if number < 4 else "common" for number, id in enumerate(candidates.ids[:-10])}
    return Knowledge(candidates, differences, sound_kinds=kinds)
