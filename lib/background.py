"""Work that a server hands to a process of its own, through the command line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from lib.settings import as_conf
from lib.site import Site


def check_in_background(site: Site) -> subprocess.CompletedProcess[str]:
    """The pool check in a process of its own, which leaves its result where the site looks for it."""
    package = Path(__file__).parent.parent
    command = [sys.executable, "-m", "lib.command_line", "check", str(site.studies), "--background"]
    for key, value in as_conf(site.settings).items():
        command += ["--conf", f"{key}={value}"]
    return subprocess.run(
        command,
        cwd=package,
        env={**os.environ, "PYTHONPATH": str(package)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
