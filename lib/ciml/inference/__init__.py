"""Segmentation of a case, its uncertainty, and the contribution of each modality."""
