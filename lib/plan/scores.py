"""What a plan knows of a case, and how that is stored."""

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
    """What a plan knows of a case.

    Attributes:
        difference: Standardised modality difference; None where the pool could not be scored.
        percentile: Share of the pool with a smaller difference, 0 to 100.
        details: JSON: by pair, the pair that differs most, whether the difference is extreme, where
            places can be compared the share of the pool with less that is striking.
        difference_nats: Mean -PMI over the pairs.
        cluster: Group of cases like it.
        features: (F,) where the case lies in the pool; kept as float16.
    """

    difference: float | None = None
    percentile: float | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
    difference_nats: float | None = None
    cluster: int | None = None
    features: NDArray[np.floating[Any]] | None = field(default=None, compare=False, repr=False)

    def warnings(self) -> list[str]:
        """What to look at before the case is labelled."""
        if not self.extreme:
            return []
        return [
            "This case differs far more than the pool does: look for damaged or misregistered images before "
            "labelling."
        ]

    @property
    def extreme(self) -> bool:
        """Whether a damaged scan is likelier than an informative one (`mdal.scoring.difference.extreme`)."""
        return bool(self.details.get("extreme"))


@dataclass(frozen=True)
class PairScore:
    """Pointwise mutual information of one pair of a case's modalities, by one training.

    Attributes:
        case_id: Of the case.
        pair: As `CT/PET`.
        seed: Of the training.
        gaussian_nats: By the Gaussian head, mean over the patches.
        top_nats: The same over the tenth of the patches that differ most.
        critic_nats: By the raw critic.
    """

    case_id: str
    pair: str
    seed: int
    gaussian_nats: float | None = None
    top_nats: float | None = None
    critic_nats: float | None = None


def score_rows(scores: Mapping[str, CaseScore]) -> list[dict[str, Any]]:
    """Rows of the table `score`, without the plan.

    Raises:
        ValueError: If a value is not finite, too large for float16 where it is a feature, or no JSON.
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
                "features": _packed(id, score.features),
            }
        )
    return rows


def pair_rows(scores: Iterable[PairScore]) -> list[dict[str, Any]]:
    """Rows of the table `pair_score`, without the plan.

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
    """Refuse what not every client could be sent.

    Raises:
        ValueError: If a value is no JSON or not finite.
    """
    try:
        json.dumps(dict(value), allow_nan=False)
    except (TypeError, ValueError) as err:
        raise ValueError(f"{what} must be JSON with finite numbers; {err}. Leave the value out.") from err


def unpacked(features: bytes) -> NDArray[np.float32]:
    """(F,) features of a stored row."""
    return np.frombuffer(features, dtype="<f2").astype(np.float32)


def _packed(id: str, features: NDArray[np.floating[Any]] | None) -> bytes | None:
    if features is None:
        return None
    with np.errstate(over="ignore"):  # what does not fit becomes infinite, and that is refused
        half = np.asarray(features).astype("<f2")
    if not np.isfinite(half).all():
        raise ValueError(f"features must be finite and fit float16; case {id} has others. Check its images.")
    return half.tobytes()


def _check_finite(id: str, *values: float | None) -> None:
    for value in values:
        if value is not None and not math.isfinite(value):
            raise ValueError(f"scores must be finite; case {id} has {value}. Check its images.")


def _float(value: float | None) -> float | None:
    return None if value is None else float(value)  # a database driver knows no float of NumPy
