"""MONAI Label datastores whose ids are cases."""
