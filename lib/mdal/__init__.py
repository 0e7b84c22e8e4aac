"""Which case to label next: MDAL, as reconstructed from its abstract (Wang et al. 2025)."""

from itertools import combinations

SCORING_VERSION = 5  # raise when training, scores or selectors change; every plan is then recomputed


def pair_names(modalities: tuple[str, ...]) -> tuple[str, ...]:
    """Names of all pairs of modalities, such as `CT/PET`."""
    return tuple(f"{first}/{second}" for first, second in combinations(modalities, 2))
