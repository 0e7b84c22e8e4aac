"""WHICH case next: modality difference as reconstructed from the abstract of MDAL (Wang et al. 2025)."""

from itertools import combinations

SCORING_VERSION = 3  # raise when training, scores or selectors change their meaning: plans are made again


def pair_names(modalities: tuple[str, ...]) -> tuple[str, ...]:
    """Every two modalities, as `CT/PET`."""
    return tuple(f"{first}/{second}" for first, second in combinations(modalities, 2))
