"""Whether the shapes are what they are said to be, and whether the probe can tell."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from benchmarks.ciml import shapes
from benchmarks.ciml.composition import read_results, settings, write_result
from benchmarks.ciml.composition_measurement import (
    FITTED,
    SCORED,
    Outcome,
    Setting,
    accuracy,
    measure,
    pooled,
)
from benchmarks.ciml.composition_report import interval, print_tables
from benchmarks.ciml.shapes import Shapes


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def draw(redundancy: float = 0.0, *, count: int = FITTED + SCORED) -> Shapes:
    return shapes.draw(count, redundancy=redundancy, generator=torch.Generator().manual_seed(0))


def read(world: Shapes, modality: int, truth: torch.Tensor) -> float:
    """What the probe reads from the pixels of one modality."""
    return accuracy(pooled([world.images[:, modality : modality + 1]]), truth.numpy())


@pytest.mark.parametrize("primary", [0, 1])
def test_only_the_auxiliary_shows_what_is_private_and_both_show_what_is_shared(primary: int) -> None:
    world = draw()
    assert read(world, primary, world.private[:, primary]) < 0.6
    assert read(world, 1 - primary, world.private[:, primary]) > 0.95
    assert read(world, primary, world.shared) > 0.95
    assert read(world, 1 - primary, world.shared) > 0.95


def test_the_dial_is_the_share_of_images_whose_mark_the_primary_shows_too() -> None:
    alone, half, both = (read(world, 0, world.private[:, 0]) for world in map(draw, (0.0, 0.5, 1.0)))
    assert alone < 0.58 < half < 0.7 < both  # from the pixels alone; brightness of discs differs more


def test_sides_are_even_and_independent() -> None:
    world = draw(count=4000)
    sides = torch.cat([world.shared[:, None], world.private], dim=1).double()
    assert (sides.mean(dim=0) - 0.5).abs().max() < 0.03
    assert (torch.corrcoef(sides.T) - torch.eye(3)).abs().max() < 0.06


def test_the_outlines_are_of_the_square_and_of_the_marked_discs() -> None:
    world = draw(count=200)
    halves = world.regions.unflatten(3, (2, -1)).sum(dim=(2, 4))  # (N, 3, left and right)
    right = torch.cat([world.shared[:, None], world.private], dim=1).long()
    assert (halves.gather(2, right[..., None]) > 0).all()
    assert (halves.gather(2, 1 - right[..., None]) == 0).all()


def test_the_same_seed_gives_the_same_images() -> None:
    assert torch.equal(draw(count=5).images, draw(count=5).images)


def test_a_probe_reads_nothing_where_there_is_nothing() -> None:
    values = np.random.default_rng(0).standard_normal((FITTED + SCORED, 384), dtype=np.float32)
    assert accuracy(values, draw().shared.numpy()) < 0.6


def test_a_network_without_messages_has_a_dice_and_no_probe() -> None:
    outcome = measure(Setting("unimodal", 0.0, 0.0, seed=0, steps=1))
    assert 0.0 <= outcome.dice <= 1.0
    assert np.isnan(outcome.private)
    assert np.isnan(outcome.kl)


def test_a_run_that_was_cut_goes_on_where_it_stood(tmp_path: Path) -> None:
    path, work = tmp_path / "composition.csv", list(settings(seeds=2, betas=[0.1], dial=[0.0]))
    assert read_results(path) == {}
    write_result(path, work[1], Outcome(dice=0.5, private=1.0))
    known = read_results(path)
    assert [setting in known for setting in work] == [False, True, False, False]
    assert known[work[1]].private == 1.0


def test_the_interval_is_students() -> None:
    mean, half = interval([1.0, 2.0, 3.0])
    assert (mean, half) == pytest.approx((2.0, 2.4841), abs=1e-3)


@pytest.mark.parametrize(("shared", "verdicts"), [(0.5, ["yes"] * 4), (0.7, ["yes", "no", "yes", "yes"])])
def test_the_table_says_which_targets_were_reached(shared: float, verdicts: list[str]) -> None:
    row = {"redundancy": 0.0, **{name: 1.0 for name in Outcome.__dataclass_fields__}}
    rows = [row | {"method": "ciml", "beta": 0.1, "seed": seed, "shared": shared} for seed in range(3)] + [
        row | {"method": "ciml", "beta": 0.0, "seed": seed} for seed in range(3)
    ]
    rows += [row | {"method": "unimodal", "beta": 0.0, "seed": seed, "dice": 0.8} for seed in range(3)]
    console = Console(width=150, file=io.StringIO(), record=True)
    print_tables(console, rows, default=0.1)
    targets = console.export_text().split("Targets")[1].splitlines()
    assert [
        word for line in targets for word in line.replace("│", " ").split()[-1:] if word in ("yes", "no")
    ] == verdicts


@pytest.mark.slow
def test_messages_bring_what_the_primary_lacks() -> None:
    with_messages = measure(Setting("ciml", 0.0, 0.0, seed=0, steps=150))
    alone = measure(Setting("unimodal", 0.0, 0.0, seed=0, steps=150))
    assert with_messages.dice > alone.dice + 0.05
    assert with_messages.private > 0.9
