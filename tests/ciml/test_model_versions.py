"""Versions of the published network."""

import multiprocessing
import os
import signal
import threading
import time
from pathlib import Path

import pytest
import torch

from lib.ciml.checkpoint import load, save
from lib.ciml.model_versions import Models
from lib.ciml.network.ciml_network import CimlNetwork


def test_the_newest_version_is_the_current_one(network: CimlNetwork, tmp_path: Path) -> None:
    models = Models(tmp_path)
    assert models.current() is None
    assert [models.publish(network, {"dice": dice}) for dice in (0.1, 0.2)] == [1, 2]
    assert load(models.current())[1] == {"dice": 0.2, "version": 2}
    assert load(models.file(1))[1] == {"dice": 0.1, "version": 1}
    assert [about["version"] for about in models.versions()] == [1, 2]


def test_a_version_holds_the_weights_it_was_published_with(network: CimlNetwork, tmp_path: Path) -> None:
    models = Models(tmp_path)
    for value in (1.0, 2.0):
        torch.nn.init.constant_(next(network.parameters()), value)
        models.publish(network, {})
    for file, value in ((models.file(1), 1.0), (models.file(2), 2.0), (models.current(), 2.0)):
        assert (next(load(file)[0].parameters()) == value).all()


def test_an_unknown_version_is_refused_with_those_there_are(network: CimlNetwork, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"must be 0 until a model is trained; got 3\."):
        Models(tmp_path).file(3)
    models = Models(tmp_path)
    for _ in range(2):
        models.publish(network, {})
    with pytest.raises(ValueError, match=r"must be 0, for the newest, or one of 1, 2; got 3\."):
        models.file(3)


def test_old_versions_go_but_never_the_newest(network: CimlNetwork, tmp_path: Path) -> None:
    models = Models(tmp_path, keep=2)
    for _ in range(5):
        models.publish(network, {})
    assert [about["version"] for about in models.versions()] == [4, 5]
    with pytest.raises(ValueError, match="keep must be at least 1; got 0"):
        Models(tmp_path, keep=0)


def test_a_model_of_before_there_were_versions_is_served_and_becomes_one(
    network: CimlNetwork, tmp_path: Path
) -> None:
    save(tmp_path / "ciml.pt", network, {"version": 7, "dice": 0.5})
    models = Models(tmp_path)
    assert models.current() == models.file(7) == tmp_path / "ciml.pt"
    assert models.publish(network, {}) == 8
    assert load(models.file(7))[1] == {"version": 7, "dice": 0.5}
    assert load(models.current())[1]["version"] == 8


def test_a_damaged_earlier_model_does_not_keep_a_new_one_away(network: CimlNetwork, tmp_path: Path) -> None:
    (tmp_path / "ciml.pt").write_bytes(b"half")
    assert Models(tmp_path).publish(network, {}) == 1


def test_a_damaged_version_is_listed_with_its_problem(network: CimlNetwork, tmp_path: Path) -> None:
    models = Models(tmp_path)
    models.publish(network, {})
    models.current().write_bytes(b"half")
    assert "must be a complete checkpoint" in models.versions()[0]["problem"]


def test_two_that_publish_at_once_get_two_versions(network: CimlNetwork, tmp_path: Path) -> None:
    numbers: list[int] = []
    threads = [
        threading.Thread(target=lambda: numbers.append(Models(tmp_path).publish(network, {})))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(numbers) == [1, 2, 3, 4]
    assert [about["version"] for about in Models(tmp_path).versions()] == [1, 2, 3, 4]


def publish_for_ever(network: CimlNetwork, folder: Path) -> None:
    while True:
        Models(folder, keep=3).publish(network, {})


def test_a_kill_at_any_moment_leaves_whole_versions(network: CimlNetwork, tmp_path: Path) -> None:
    for kill in range(3):
        process = multiprocessing.get_context("fork").Process(
            target=publish_for_ever, args=(network, tmp_path)
        )
        process.start()
        time.sleep(0.3 + 0.07 * kill)
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        models = Models(tmp_path, keep=3)
        newest = load(models.current())[1]["version"]
        assert all("problem" not in about for about in models.versions())
        assert models.publish(network, {}) == newest + 1
    assert not list(tmp_path.rglob(".part-*"))


def test_a_chosen_version_is_served_by_every_process_until_another_choice(
    network: CimlNetwork, tmp_path: Path
) -> None:
    models, other_process = Models(tmp_path, keep=2), Models(tmp_path, keep=2)
    for _ in range(2):
        models.publish(network, {})
    models.choose(1)
    assert other_process.current() == models.file(1)
    for _ in range(3):
        other_process.publish(network, {})
    assert models.chosen() == 1
    assert [about["version"] for about in models.versions()] == [1, 4, 5]  # the chosen one is kept
    models.choose(0)
    assert other_process.current() == models.file(5)


def test_only_the_choice_that_a_network_was_judged_by_ends_with_it(
    network: CimlNetwork, tmp_path: Path
) -> None:
    models = Models(tmp_path)
    for _ in range(2):
        models.publish(network, {})
    models.choose(1)
    models.publish(network, {}, after=2)
    assert models.chosen() == 1
    models.publish(network, {}, after=1)
    assert models.chosen() == 0
    assert load(models.current())[1]["version"] == 4


def test_a_version_that_is_not_there_is_not_chosen(network: CimlNetwork, tmp_path: Path) -> None:
    models = Models(tmp_path)
    for _ in range(2):
        models.publish(network, {})
    with pytest.raises(ValueError, match=r"must be 0, for the newest, or one of 1, 2; got 9\."):
        models.choose(9)
    models.choose(1)
    models.current().unlink()
    assert models.chosen() == 0
    assert load(models.current())[1]["version"] == 2


def test_a_model_of_before_there_were_versions_can_be_chosen(network: CimlNetwork, tmp_path: Path) -> None:
    save(tmp_path / "ciml.pt", network, {"version": 7})
    models = Models(tmp_path)
    models.choose(7)
    assert models.publish(network, {}) == 8
    assert load(models.current())[1]["version"] == 7
