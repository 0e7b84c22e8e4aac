"""Endpoints of the page."""
