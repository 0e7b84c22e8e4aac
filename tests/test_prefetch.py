"""The next cases of the plan are segmented before anyone asks, by the model that answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lib.cases.case import CaseError, Source
from lib.ciml.network import CimlNetwork
from lib.plan.scores import CaseScore
from lib.prefetch import Prefetcher
from lib.settings import AppSettings
from lib.site import Site
from lib.tasks.infer import CimlInfer

Samples = Callable[..., Path]
ORDER = ("STS_025", "STS_008", "STS_042", "STS_002")


@pytest.fixture
def site(samples: Samples) -> Site:
    return Site(samples(*ORDER, labels=False), AppSettings(prefetch=2))


def plan(site: Site) -> None:
    site.plan.write(
        content="test",
        seed=0,
        about={},
        orders={"paced": list(ORDER)},
        scores={id: CaseScore() for id in ORDER},
    )


def publish(site: Site, seed: int = 0) -> None:
    torch.manual_seed(seed)
    site.models.publish(CimlNetwork(site.decomposition, site.preparation.modalities), {})


def names(prefetcher: Prefetcher) -> list[str]:
    return [case.id for case in prefetcher.wanted()]


def test_nothing_is_wanted_before_there_is_a_plan_and_a_model(site: Site) -> None:
    prefetcher = Prefetcher(site, set)
    assert names(prefetcher) == []
    plan(site)
    assert names(prefetcher) == []
    publish(site)
    assert names(prefetcher) == ["STS_025", "STS_008"]


def test_what_follows_the_offered_case_and_has_no_label_is_wanted(site: Site) -> None:
    plan(site)
    publish(site)
    labelled: set[str] = set()
    prefetcher = Prefetcher(site, lambda: labelled)
    prefetcher.look("STS_025")
    assert names(prefetcher) == ["STS_008", "STS_042"]
    labelled.add("STS_042")
    assert names(prefetcher) == ["STS_008", "STS_002"]
    prefetcher.look("STS_002")
    assert names(prefetcher) == ["STS_025", "STS_008"]


def test_what_is_segmented_is_not_wanted_again_until_the_model_changes(site: Site) -> None:
    plan(site)
    publish(site)
    prefetcher = Prefetcher(site, set)
    for case in prefetcher.wanted():
        prefetcher.segmenter.segment(case, prefetching=True)
    assert names(prefetcher) == []
    assert prefetcher.run() == []
    publish(site, seed=1)
    assert names(prefetcher) == ["STS_025", "STS_008"]


def test_a_site_can_do_without(site: Site) -> None:
    plan(site)
    publish(site)
    assert names(Prefetcher(Site(site.studies, AppSettings(prefetch=0)), set)) == []


@pytest.mark.slow
def test_a_case_segmented_ahead_in_a_process_of_its_own_is_served_at_once_and_says_so(site: Site) -> None:
    plan(site)
    publish(site)
    prefetcher = Prefetcher(site, set)
    assert [case.id for case in prefetcher.run()] == ["STS_025", "STS_008"]
    assert prefetcher.run() == []
    file, about = CimlInfer(site)({"case": site.pool.by_id["STS_008"], "modality": "PET"})
    Path(file).unlink()
    assert about["ciml"]["prefetched"] is True
    assert about["latencies"]["infer"] == 0.0


@pytest.mark.slow
def test_a_case_that_cannot_be_segmented_is_not_tried_again(site: Site) -> None:
    plan(site)
    publish(site)
    file = site.pool.by_id["STS_025"].modalities["CT"].path
    file.write_bytes(file.read_bytes()[:2000])
    prefetcher = Prefetcher(site, set)
    prefetcher.run()
    assert names(prefetcher) == []


class Archived(Source):
    """A volume that an archive gives or does not."""

    def make_local(self) -> None:
        asked.append(self.path.parent.name)
        if down:
            raise CaseError("the archive does not answer.")


asked: list[str] = []
down: list[bool] = []


def test_what_follows_is_fetched_before_there_is_a_model(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    asked.clear()
    archived = [
        replace(case, modalities={name: Archived(each.path) for name, each in case.modalities.items()})
        for case in site.served
    ]
    site.served = tuple(archived)
    prefetcher = Prefetcher(site, set)
    assert prefetcher.run() == []
    plan(site)
    assert prefetcher.run() == []
    assert asked == ["STS_025"] * 3 + ["STS_008"] * 3
    down.append(True)
    for _ in range(2):
        assert prefetcher.run() == []
    assert "the archive does not answer" in caplog.text
    assert len(asked) == 7  # it is left alone for a minute
    down.clear()
