"""Pointwise mutual information and modality difference of each case, computed from its features."""
