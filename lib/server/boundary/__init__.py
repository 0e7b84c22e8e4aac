"""Checks of every request before an endpoint runs, and of every response before it is sent."""
