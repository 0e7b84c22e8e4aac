"""A private PostgreSQL server, and the tests that need one."""

from __future__ import annotations

import os
import uuid

import psycopg
import pytest

from benchmarks.common.postgresql import MISSING, postgresql, programs

__all__ = ["new_schema", "postgresql", "skip_without_postgresql"]


def skip_without_postgresql() -> None:
    """Skip the test where PostgreSQL is not installed; with CI=true that is a failure."""
    if programs() is None:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(MISSING)


def new_schema(address: str) -> str:
    """Address of an empty schema of the server's database; much quicker to make than a database."""
    name = f"plan_{uuid.uuid4().hex}"
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {name}")
    return f"{address}?options=-csearch_path%3D{name}"
