"""The server's own folder for temporary files."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from lib.runtime.temporary import (
    claim_folder_beside_the_servers,
    claim_temporary_folder,
    is_temporary,
    keep_private,
    remove_left_folders,
)

CLAIM = """
import sys, tempfile, time
from pathlib import Path
from lib.runtime.temporary import claim_temporary_folder
claim_temporary_folder(Path(sys.argv[1]))
tempfile.NamedTemporaryFile(delete=False).write(b"a patient's image")
print("ready", flush=True)
time.sleep(60)
"""


@pytest.fixture(autouse=True)
def _as_before(temporary_folder_as_before: None) -> Iterator[None]:
    umask = os.umask(0o022)
    yield
    os.umask(umask)


def test_temporary_files_lie_in_a_private_folder_of_the_servers_own(tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    logs.mkdir()
    (logs / "app.log").touch(0o644)
    keep_private(tmp_path / "work", logs)
    assert (tmp_path / "work" / "tmp").stat().st_mode & 0o777 == 0o700
    with tempfile.NamedTemporaryFile() as file:
        assert Path(file.name).is_relative_to(tmp_path / "work" / "tmp")
        assert is_temporary(Path(file.name))
    assert not is_temporary(tmp_path / "work" / "label.nii.gz")
    told = subprocess.run(
        [sys.executable, "-c", "import tempfile; print(tempfile.gettempdir())"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout.strip() == tempfile.gettempdir()
    (tmp_path / "written").touch()
    assert (tmp_path / "written").stat().st_mode & 0o777 == 0o600
    assert (logs / "app.log").stat().st_mode & 0o777 == 0o600


def test_what_a_killed_job_left_is_removed_while_its_server_runs_and_the_servers_own_stays(
    tmp_path: Path,
) -> None:
    own = claim_temporary_folder(tmp_path)
    (own / "answer").touch()
    job = CLAIM.replace(
        "claim_temporary_folder(Path(sys.argv[1]))", "claim_folder_beside_the_servers()"
    ).replace("import claim_temporary_folder", "import claim_folder_beside_the_servers")
    running = subprocess.Popen([sys.executable, "-c", job], stdout=subprocess.PIPE, text=True)
    assert running.stdout is not None
    assert running.stdout.readline() == "ready\n"
    remove_left_folders(tmp_path)
    (left,) = tmp_path.glob("tmp/server-*/tmp*")
    assert left.parent != own
    running.kill()
    running.wait()
    remove_left_folders(tmp_path)
    assert [*tmp_path.glob("tmp/server-*")] == [own]
    assert (own / "answer").exists()


def test_a_job_of_no_server_keeps_the_systems_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    claim_folder_beside_the_servers()
    assert [*tmp_path.iterdir()] == []


def test_what_a_killed_server_left_is_swept_and_a_live_ones_stays(tmp_path: Path) -> None:
    servers = [
        subprocess.Popen([sys.executable, "-c", CLAIM, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    for server in servers:
        assert server.stdout is not None
        assert server.stdout.readline() == "ready\n"
    left = {path.parent.name for path in tmp_path.glob("tmp/server-*/tmp*")}
    assert len(left) == 2
    servers[0].send_signal(signal.SIGKILL)
    servers[0].wait()
    keep_private(tmp_path, tmp_path / "logs")
    assert len({path.parent.name for path in tmp_path.glob("tmp/server-*/tmp*")} & left) == 1
    servers[1].kill()
    servers[1].wait()
