"""The next cases of the plan are segmented before anyone asks, by the model that answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lib.cases.case import Source
from lib.ciml.network.ciml_network import CimlNetwork
from lib.pipeline.settings import AppSettings
from lib.pipeline.workspace import Workspace
from lib.plan.scores import CaseScore
from lib.runtime.errors import UserError
from lib.server.prefetch import Prefetcher
from lib.server.tasks.infer import CimlInfer

Samples = Callable[..., Path]
ORDER = ("STS_025", "STS_008", "STS_042", "STS_002")


@pytest.fixture
def workspace(samples: Samples) -> Workspace:
    return Workspace(samples(*ORDER, labels=False), AppSettings(prefetch=2))


def plan(workspace: Workspace) -> None:
    workspace.plan.write(
        content="test",
        seed=0,
        about={},
        orders={"representative": list(ORDER)},
        scores={id: CaseScore() for id in ORDER},
    )


def publish(workspace: Workspace, seed: int = 0) -> None:
    torch.manual_seed(seed)
    workspace.models.publish(CimlNetwork(workspace.decomposition, workspace.preparation.modalities), {})


def names(prefetcher: Prefetcher) -> list[str]:
    return [case.id for case in prefetcher.unsegmented()]


def test_nothing_is_wanted_before_there_is_a_plan_and_a_model(workspace: Workspace) -> None:
    prefetcher = Prefetcher(workspace, set)
    assert names(prefetcher) == []
    plan(workspace)
    assert names(prefetcher) == []
    publish(workspace)
    assert names(prefetcher) == ["STS_025", "STS_008"]


def test_what_follows_the_offered_case_and_has_no_label_is_wanted(workspace: Workspace) -> None:
    plan(workspace)
    publish(workspace)
    labelled: set[str] = set()
    prefetcher = Prefetcher(workspace, lambda: labelled)
    prefetcher.look("STS_025")
    assert names(prefetcher) == ["STS_008", "STS_042"]
    labelled.add("STS_042")
    assert names(prefetcher) == ["STS_008", "STS_002"]
    prefetcher.look("STS_002")
    assert names(prefetcher) == ["STS_025", "STS_008"]


def test_what_is_segmented_is_not_wanted_again_until_the_model_changes(workspace: Workspace) -> None:
    plan(workspace)
    publish(workspace)
    prefetcher = Prefetcher(workspace, set)
    for case in prefetcher.unsegmented():
        prefetcher.segmenter.segment(case, prefetching=True)
    assert names(prefetcher) == []
    assert prefetcher.run() == []
    publish(workspace, seed=1)
    assert names(prefetcher) == ["STS_025", "STS_008"]


def test_a_site_can_do_without(workspace: Workspace) -> None:
    plan(workspace)
    publish(workspace)
    assert names(Prefetcher(Workspace(workspace.folders.studies, AppSettings(prefetch=0)), set)) == []


@pytest.mark.slow
def test_a_case_segmented_ahead_in_a_process_of_its_own_is_served_at_once_and_says_so(
    workspace: Workspace,
) -> None:
    plan(workspace)
    publish(workspace)
    prefetcher = Prefetcher(workspace, set)
    assert [case.id for case in prefetcher.run()] == ["STS_025", "STS_008"]
    assert prefetcher.run() == []
    file, about = CimlInfer(workspace)({"case": workspace.pool.by_id["STS_008"], "modality": "PET"})
    Path(file).unlink()
    assert about["ciml"]["prefetched"] is True
    assert about["latencies"]["infer"] == 0.0


@pytest.mark.slow
def test_a_case_that_cannot_be_segmented_is_not_tried_again(workspace: Workspace) -> None:
    plan(workspace)
    publish(workspace)
    file = workspace.pool.by_id["STS_025"].modalities["CT"].path
    file.write_bytes(file.read_bytes()[:2000])
    prefetcher = Prefetcher(workspace, set)
    prefetcher.run()
    assert names(prefetcher) == []


class Archived(Source):
    """A volume that an archive gives or does not."""

    def make_local(self) -> None:
        asked.append(self.path.parent.name)
        if down:
            raise UserError("the archive does not answer.")


asked: list[str] = []
down: list[bool] = []


def test_what_follows_is_fetched_before_there_is_a_model(
    workspace: Workspace, caplog: pytest.LogCaptureFixture
) -> None:
    asked.clear()
    archived = [
        replace(case, modalities={name: Archived(each.path) for name, each in case.modalities.items()})
        for case in workspace.verdicts.served
    ]
    workspace.verdicts.served = tuple(archived)
    prefetcher = Prefetcher(workspace, set)
    assert prefetcher.run() == []
    plan(workspace)
    assert prefetcher.run() == []
    assert asked == ["STS_025"] * 3 + ["STS_008"] * 3
    down.append(True)
    for _ in range(2):
        assert prefetcher.run() == []
    assert "the archive does not answer" in caplog.text
    assert len(asked) == 7  # it is left alone for a minute
    down.clear()
