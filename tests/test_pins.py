"""The pins suit every Python that the project runs on, and pyproject.toml says what they say."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from setuptools.config.pyprojecttoml import read_configuration

from lib import VERSION

ROOT = Path(__file__).parents[1]
OLDEST_AND_NEWEST = ("3.11.0", "3.12")
PINS = ("requirements.txt", "requirements-dev.txt", "constraints.txt")
PINNED_BY_TORCH = ("cuda-", "nvidia-", "triton")  # its build for CUDA brings them
UV_NAMES = {  # of pip's settings
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "no-index": "UV_NO_INDEX",
    "find-links": "UV_FIND_LINKS",
    "trusted-host": "UV_INSECURE_HOST",
    "cert": "SSL_CERT_FILE",
    "proxy": "ALL_PROXY",
}


def requirements(name: str) -> Iterator[Requirement]:
    for line in (ROOT / name).read_text().splitlines():
        if line and not line.startswith(("#", "-r")):
            yield Requirement(line)


def pip_settings_for_uv() -> dict[str, str]:
    """The indexes that pip is set to, as environment variables of uv, which reads nothing of pip's."""
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
    ).stdout
    found = {}
    for section in ("global", "install", ":env:"):  # a later one goes before, as it does for pip
        for line in listed.splitlines():
            key, _, value = line.partition("=")
            if key.startswith(f"{section}."):
                found[key.removeprefix(f"{section}.")] = str(ast.literal_eval(value))
    if "find-links" in found:
        found["find-links"] = ",".join(found["find-links"].split())
    return {UV_NAMES[key]: value for key, value in found.items() if key in UV_NAMES}


@pytest.mark.slow
@pytest.mark.parametrize("python", OLDEST_AND_NEWEST)
def test_the_pins_resolve_and_leave_no_package_unpinned(python: str) -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "uv", "pip", "compile", "--no-header", "--no-annotate", "--no-config"),
            *("requirements.txt", "requirements-dev.txt", "--constraints", "constraints.txt"),
            *("--python", sys.executable, "--python-version", python),
            *("--index-strategy", "unsafe-best-match"),  # all indexes count alike, as for pip
            *("--no-build-isolation-package", "sam2"),  # else it fetches a torch, gigabytes, to be built
        ],
        cwd=ROOT,
        env={**os.environ, **pip_settings_for_uv()},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    if "Failed to fetch" in done.stderr and os.environ.get("CI") != "true":
        pytest.skip("the package index must be reachable for this")
    assert done.returncode == 0, done.stderr
    pinned = {canonicalize_name(pin.name) for name in PINS for pin in requirements(name)}
    resolved = {canonicalize_name(Requirement(line).name) for line in done.stdout.splitlines()}
    assert len(resolved) > 100
    assert {name for name in resolved - pinned if not name.startswith(PINNED_BY_TORCH)} == set()


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    """The project table with what it takes from other files."""
    table: dict[str, Any] = read_configuration(ROOT / "pyproject.toml")["project"]
    return table


def test_the_project_table_is_complete(project: dict[str, Any]) -> None:
    assert (project["name"], project["license"]) == ("mdal-ciml", "Apache-2.0")
    assert project["version"] == VERSION
    assert list(map(Requirement, project["dependencies"])) == list(requirements("requirements.txt"))


def test_the_project_supports_python_3_11_and_3_12(project: dict[str, Any]) -> None:
    versions = ("3.10.20", *OLDEST_AND_NEWEST, "3.12.20", "3.13.0")
    assert list(SpecifierSet(project["requires-python"]).filter(versions)) == [*versions[1:-1]]
