"""MONAI Label's tasks: which case next, scoring, pre-segmentation, training."""
