"""MONAI Label's tasks: Next Sample, scoring, pre-segmentation, training."""
