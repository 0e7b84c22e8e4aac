import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lib.labels.register import Register
from lib.runtime import own_files
from lib.runtime.errors import UserError

WRITER = """
import sys
from pathlib import Path
from lib.labels.register import Register
register, name = Register(Path(sys.argv[1])), sys.argv[2]
for number in range(int(sys.argv[3])):
    key = f"{name}-{number:06}"
    register.change(lambda content: content["objects"].update({key: {"padding": "x" * 2000}}))
    print(number, flush=True)
"""


def write_in_a_process(path: Path, name: str, count: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), name, str(count)], stdout=subprocess.PIPE, text=True
    )


def test_what_one_process_writes_another_one_keeps(tmp_path: Path) -> None:
    path = tmp_path / "datastore_v2.json"
    writers = [write_in_a_process(path, name, 200) for name in ("a", "b")]
    for writer in writers:
        writer.communicate()
        assert writer.returncode == 0
    names = set(Register(path).objects)
    assert names == {f"{name}-{number:06}" for name in ("a", "b") for number in range(200)}


@pytest.mark.slow
def test_sixty_kills_leave_it_readable_and_lose_at_most_the_last_write(tmp_path: Path) -> None:
    path, moment = tmp_path / "datastore_v2.json", random.Random(0)
    told: dict[str, int] = {}
    for round in range(60):
        writer = write_in_a_process(path, f"r{round:02}", 100_000)
        assert writer.stdout is not None
        told[f"r{round:02}"] = int(writer.stdout.readline())
        time.sleep(moment.uniform(0.0, 0.05))
        writer.send_signal(signal.SIGKILL)
        rest = writer.stdout.read().split("\n")
        numbers = [int(line) for line in rest[:-1] if line]
        told[f"r{round:02}"] = max([told[f"r{round:02}"], *numbers])
        writer.wait()
        objects = json.loads(path.read_text())["objects"]  # readable, whole
        for name, last in told.items():
            kept = [key for key in objects if key.startswith(name)]
            assert kept == [f"{name}-{number:06}" for number in range(len(kept))]
            assert len(kept) >= last + 1  # whatever was reported written is there


def test_a_change_that_fails_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    register = Register(tmp_path / "datastore_v2.json")
    register.change(lambda content: content["objects"].update(a={"labels": {}}))
    before = register.path.read_bytes()
    with pytest.raises(ValueError, match="JSON"):
        register.change(lambda content: content["objects"].update(b={"score": float("nan")}))
    assert register.path.read_bytes() == before
    assert list(register.objects) == ["a"]


def test_what_another_process_wrote_is_seen_without_a_restart(tmp_path: Path) -> None:
    register = Register(tmp_path / "datastore_v2.json")
    assert register.objects == {}
    Register(register.path).change(lambda content: content["objects"].update(a={}))
    assert list(register.objects) == ["a"]


def test_another_kind_of_file_in_its_place_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "datastore_v2.json"
    path.write_text("[1, 2]")
    with pytest.raises(ValueError, match="Move it away"):
        Register(path).change(lambda content: content.update(name="x"))
    assert path.read_text() == "[1, 2]"


def deep(levels: int) -> dict[str, object]:
    value: dict[str, object] = {}
    for _ in range(levels):
        value = {"x": value}
    return value


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"image": {"info": deep(400)}}, "recursion limit"),
        ({"image": {"info": [5]}}, "should be an object"),
        ({"padding": "x" * 2000}, "at most"),
    ],
)
def test_what_could_not_be_read_again_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record: dict[str, object], reason: str
) -> None:
    register = Register(tmp_path / "datastore_v2.json")
    register.change(lambda content: content["objects"].update({"kept": {}}))
    monkeypatch.setattr(own_files, "MAX_DOCUMENT_BYTES", 1000 if "padding" in record else 10_000)
    with pytest.raises(UserError, match=rf"notes must fit the register of the labels; .*{reason}"):
        register.change(lambda content: content["objects"].update({"p1": record}))
    assert Register(register.path).objects == {"kept": {}}
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".json"] == ["datastore_v2.json"]
