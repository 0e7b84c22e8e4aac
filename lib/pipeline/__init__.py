"""A studies folder becomes a checked pool, a plan, a model, a segmentation."""
