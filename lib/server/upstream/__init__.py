"""Corrections of MONAI Label's own endpoints, viewer and login."""
