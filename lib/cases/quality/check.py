"""The pool check: measure new and changed cases in parallel, then apply the rules to the whole pool."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import SimpleITK as sitk

from lib.cases.case import Case, Source
from lib.cases.preprocessing import Preparation
from lib.cases.quality.findings import Verdict
from lib.cases.quality.label_rules import with_label_findings
from lib.cases.quality.measurements import MEASURE_VERSION, measure, unmeasured
from lib.cases.quality.rules import apply_rules
from lib.cases.records import Records
from lib.runtime.errors import UserError
from lib.runtime.processes import process_pool
from lib.runtime.progress import OnCasesDone

CASES_PER_PROCESS = 8  # starting a process takes as long as measuring a few cases
CASES_PER_BATCH = 64  # cases measured between two transactions; a kill loses at most so many

RefuseLabels = Callable[[Mapping[str, Any]], Mapping[str, str]]  # facts of labels -> reasons, by case id

logger = logging.getLogger(__name__)


def check_pool(
    cases: Sequence[Case],
    preparation: Preparation,
    records: Records,
    *,
    workers: int | None = None,
    on_progress: OnCasesDone | None = None,
    refuse_labels: RefuseLabels = lambda labels: {},
) -> dict[str, Verdict]:
    """Check a pool and return the verdict on each case, by id; no file is changed.

    Measurements are stored in `records` by content, so only new or changed cases are read. A case with an
    unreadable file is measured again at each check.

    Args:
        cases: Cases of the pool.
        preparation: Modalities and reference of the pool.
        records: Store of content hashes and measurements.
        workers: Number of processes; by default one a core.
        on_progress: Called with the numbers of checked cases and of all cases.
        refuse_labels: Says which labels beside the images have values that cannot be used, and why.

    Returns:
        Verdict of each case, by id.
    """
    hashes = _content_hashes(cases, records)
    labels = {case.id: _label_stamp(case) for case in cases}
    keys = {id: _key(content, labels[id], preparation) for id, content in hashes.items()}
    known = records.measurements(keys.values())
    measured = {case.id: known[keys[case.id]] for case in cases if keys.get(case.id) in known}
    pending = [case for case in cases if case.id not in measured]
    report = on_progress or (lambda done, total: None)
    report(len(measured), len(cases))
    fresh: dict[str, Any] = {}
    for case, facts in _measure_all(pending, preparation, workers or os.cpu_count() or 1):
        measured[case.id] = facts
        if case.id in keys and not any("error" in volume for volume in facts["modalities"].values()):
            fresh[keys[case.id]] = facts
        if len(fresh) >= CASES_PER_BATCH:
            records.store(fresh)
            fresh.clear()
        report(len(measured), len(cases))
    records.store(fresh)
    measurements = {case.id: measured[case.id] for case in cases}
    refused = refuse_labels({id: facts["label"] for id, facts in measurements.items() if "label" in facts})
    notes = {case.id: case.notes for case in cases}
    verdicts = apply_rules(measurements, preparation.modalities, notes)
    return with_label_findings(verdicts, measurements, refused)


@dataclass(frozen=True)
class PoolReport:
    """Verdicts on a pool as a document.

    Attributes:
        verdicts: Verdicts by case id.
    """

    verdicts: dict[str, Verdict]

    def count(self) -> dict[str, int]:
        """Number of cases by status."""
        found = Counter(verdict.status for verdict in self.verdicts.values())
        return {status: found[status] for status in ("ok", "warned", "quarantined")}

    def to_json(self) -> dict[str, Any]:
        """Document of plain types: `counts`, and `cases` with status and findings by id."""
        return {
            "counts": self.count(),
            "cases": {id: asdict(verdict) for id, verdict in self.verdicts.items()},
        }


def _measure_all(
    cases: Sequence[Case], preparation: Preparation, workers: int
) -> Iterator[tuple[Case, dict[str, Any]]]:
    """Measure each case; a case that kills its process gets an `error` as its measurement."""
    work = partial(measure, preparation=preparation)
    work, done = partial(_on_one_thread, work), 0
    while done < len(cases):
        with process_pool(min(workers, 1 + (len(cases) - done) // CASES_PER_PROCESS)) as pool:
            try:
                while batch := cases[
                    done : done + CASES_PER_BATCH
                ]:  # batches bound the number of waiting results
                    for case, facts in zip(batch, pool.map(work, batch), strict=True):
                        done += 1
                        yield case, facts
            except BrokenProcessPool:
                pass
            else:
                return
        case = cases[done]  # this case or a parallel one killed the process: measure this one alone
        with process_pool(1) as pool:
            try:
                facts = pool.submit(work, case).result()
            except BrokenProcessPool:
                text = "reading it ended the process (out of memory, or a damaged file). Look at its files."
                facts = unmeasured(case, text)
        done += 1
        yield case, facts


def _on_one_thread(work: Callable[[Case], dict[str, Any]], case: Case) -> dict[str, Any]:
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    with suppress(OSError):  # off Linux; on Linux, the kernel kills this process first if memory is short
        Path("/proc/self/oom_score_adj").write_text("1000")
    return work(case)


def _content_hashes(cases: Sequence[Case], records: Records) -> dict[str, str]:
    """Content hash by id; a case that cannot be hashed is left out."""
    try:
        return records.content_hashes(cases)
    except sqlite3.Error:  # not the fault of a case
        raise
    except Exception as err:
        if len(cases) == 1:
            logger.warning("case %s could not be hashed: %s", cases[0].id, err)
            return {}
        half = len(cases) // 2
        return _content_hashes(cases[:half], records) | _content_hashes(cases[half:], records)


def _label_stamp(case: Case) -> str:
    """Stamp of the label beside the images; empty without one, or if it has just been removed."""
    with suppress(UserError):
        return f"{case.label} {Source(case.label).stamp()} {case.ignored}" if case.label else ""
    return ""


def _key(content: str, label: str, preparation: Preparation) -> str:
    text = json.dumps([MEASURE_VERSION, content, label, preparation.reference, preparation.max_voxels])
    return "check:" + hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
