"""A real server process, and Slicer's own client for it: the benchmarks start it as the tests do."""

from benchmarks.common.folders import APP, ROOT
from benchmarks.common.server import serving, slicer_client, train, wait_for_plan, wait_until

__all__ = ["APP", "ROOT", "serving", "slicer_client", "train", "wait_for_plan", "wait_until"]
