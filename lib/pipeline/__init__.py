"""From a studies folder to a checked pool, a plan, a model and segmentations."""
