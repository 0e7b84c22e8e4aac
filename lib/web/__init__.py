"""Endpoints of our own beside those of MONAI Label."""
