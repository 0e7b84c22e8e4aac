"""Scores of the cases of a plan, and their rows in the database."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class CaseScore:
    """Scores of a case in a plan.

    Attributes:
        difference: Standardised modality difference; None if the pool could not be scored.
        percentile: Percentage of the pool with a smaller difference, 0 to 100.
        details: JSON: the differences by pair, the pair that differs most, and whether the difference is
            extreme; if positions can be compared, also the percentage of the pool with fewer salient places.
        difference_nats: Mean -PMI over the pairs.
        cluster: Number of the cluster of the case.
        features: Position of the case in feature space, shape (F,); stored as float16.
    """

    difference: float | None = None
    percentile: float | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
    difference_nats: float | None = None
    cluster: int | None = None
    features: NDArray[np.floating[Any]] | None = field(default=None, compare=False, repr=False)

    def warnings(self) -> list[str]:
        """Sentences to read before the case is labelled."""
        if not self.extreme:
            return []
        return [
            "This case differs far more than the pool does: look for damaged or misregistered images before "
            "labelling."
        ]

    @property
    def extreme(self) -> bool:
        """Whether the scan is more likely damaged than informative (`mdal.scoring.difference.extreme`)."""
        return bool(self.details.get("extreme"))


@dataclass(frozen=True)
class PairScore:
    """Pointwise mutual information of one pair of a case's modalities, by one training.

    Attributes:
        case_id: Id of the case.
        pair: Pair of modalities, such as `CT/PET`.
        seed: Seed of the training.
        gaussian_nats: PMI by the Gaussian head, mean over the patches.
        top_nats: PMI by the Gaussian head, mean over the tenth of the patches that differ most.
        critic_nats: PMI by the raw critic.
    """

    case_id: str
    pair: str
    seed: int
    gaussian_nats: float | None = None
    top_nats: float | None = None
    critic_nats: float | None = None


def score_rows(scores: Mapping[str, CaseScore]) -> list[dict[str, Any]]:
    """Rows of the table `score`, without the id of the plan.

    Raises:
        ValueError: If a value is not finite or not JSON, or a feature is too large for float16.
    """
    rows = []
    for id, score in scores.items():
        _check_finite(id, score.difference, score.percentile, score.difference_nats)
        check_json(f"details of case {id}", score.details)
        rows.append(
            {
                "case_id": id,
                "difference": _float(score.difference),
                "percentile": _float(score.percentile),
                "details": dict(score.details),
                "difference_nats": _float(score.difference_nats),
                "cluster": None if score.cluster is None else int(score.cluster),
                "features": _pack_features(id, score.features),
            }
        )
    return rows


def pair_rows(scores: Iterable[PairScore]) -> list[dict[str, Any]]:
    """Rows of the table `pair_score`, without the id of the plan.

    Raises:
        ValueError: If a value is not finite.
    """
    rows = []
    for score in scores:
        _check_finite(score.case_id, score.gaussian_nats, score.top_nats, score.critic_nats)
        rows.append(
            {
                "case_id": score.case_id,
                "pair": score.pair,
                "seed": int(score.seed),
                "gaussian_nats": _float(score.gaussian_nats),
                "top_nats": _float(score.top_nats),
                "critic_nats": _float(score.critic_nats),
            }
        )
    return rows


def check_json(what: str, value: Mapping[str, Any]) -> None:
    """Refuse values that cannot be sent to every client.

    Raises:
        ValueError: If a value is not JSON or not finite.
    """
    try:
        json.dumps(dict(value), allow_nan=False)
    except (TypeError, ValueError) as err:
        raise ValueError(f"{what} must be JSON with finite numbers; {err}. Leave the value out.") from err


def unpack_features(features: bytes) -> NDArray[np.float32]:
    """Features of a stored row, shape (F,)."""
    return np.frombuffer(features, dtype="<f2").astype(np.float32)


def _pack_features(id: str, features: NDArray[np.floating[Any]] | None) -> bytes | None:
    if features is None:
        return None
    with np.errstate(over="ignore"):  # values that overflow become infinite and are refused below
        half = np.asarray(features).astype("<f2")
    if not np.isfinite(half).all():
        raise ValueError(f"features must be finite and fit float16; case {id} has others. Check its images.")
    return half.tobytes()


def _check_finite(id: str, *values: float | None) -> None:
    for value in values:
        if value is not None and not math.isfinite(value):
            raise ValueError(f"scores must be finite; case {id} has {value}. Check its images.")


def _float(value: float | None) -> float | None:
    return None if value is None else float(value)  # database drivers do not accept NumPy floats
