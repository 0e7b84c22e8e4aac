import os
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
CHILD = "import time; from lib.runtime.processes import end_with_the_parent; end_with_the_parent(); "
CHILD += "print('watching', flush=True); time.sleep(60)"
SERVER = f"""
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", {CHILD!r}])
print(child.pid, flush=True)
time.sleep(60)
"""


def runs(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_a_job_ends_with_the_server_that_started_it() -> None:
    server = subprocess.Popen(
        [sys.executable, "-c", SERVER],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": "."},
    )
    assert server.stdout is not None
    child = int(server.stdout.readline())
    assert server.stdout.readline() == "watching\n"
    assert runs(child)
    server.send_signal(signal.SIGKILL)
    server.wait()
    end = time.monotonic() + 60.0
    while runs(child) and time.monotonic() < end:
        time.sleep(0.2)
    assert not runs(child)
