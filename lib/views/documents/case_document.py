"""Content of the page about one case."""

from __future__ import annotations

from typing import Any

from lib.cases.case import Case, Source
from lib.cases.dicomweb.mirror import RemoteSeries
from lib.cases.formats.image import read_grid
from lib.cases.structure_colours import colour_of
from lib.ciml.inference.explanation import MEASURE_UNITS, MEASURES, links_of
from lib.pipeline.place_differences import place_differences
from lib.pipeline.plan_document import PlannedCase, budgeted, reason
from lib.pipeline.workspace import Workspace
from lib.plan.scores import CaseScore
from lib.plan.store import Event
from lib.runtime.errors import UserError
from lib.views.documents.case_files import CaseFiles
from lib.views.documents.viewer_links import viewer_links
from lib.views.pictures.difference_map import colour_range
from lib.views.pictures.display_presets import display_window

_SHOWN_MAPS = ("attention", "kl")  # contribution maps on the page; the explanation's folder has all


_SHOWN_OF_A_VERSION = ("of", "model_version", "seconds_since_offer")


def case_document(files: CaseFiles, case: Case) -> dict[str, Any]:
    """Facts about a case as JSON; only the id and the title identify the patient."""
    workspace = files.workspace
    score = workspace.plan.score(case.id)
    labels = files.workspace.labels.files_of(case)
    nearest = workspace.plan.nearest(case.id, files.workspace.labels.labelled() - {case.id})
    return {
        "id": case.id,
        "title": case.title,
        **_verdict(workspace, case),
        **_rank(workspace, case, score),
        "difference": score.difference,
        "difference_nats": score.difference_nats,
        "percentile": score.percentile,
        "most_different_pair": score.details.get("most_different_pair"),
        "cluster": score.cluster,
        "pairs": [
            {"pair": pair, **numbers}
            for pair, numbers in PlannedCase(0, case.id, False, score).pairs().items()
        ],
        "nearest_labelled": None if nearest is None else {"id": nearest[0], "distance": nearest[1]},
        "modalities": [_modality(case, name, source) for name, source in case.modalities.items()],
        "reference": workspace.preparation.reference_of(case),
        "labels": [{"tag": tag, **_written_at(files, case, tag)} for tag in sorted(labels)],
        "versions": _versions(files, case),
        "structures": [
            {"name": name, "value": value, "colour": colour_of(value)}
            for name, value in workspace.decomposition.labels.items()
        ],
        "differences": _differences(files, case),
        "model": _model(files),
        "history": [_event(event) for event in workspace.plan.history(case.id)],
        **viewer_links(case),
    }


def _verdict(workspace: Workspace, case: Case) -> dict[str, Any]:
    verdict = workspace.verdicts.by_case.get(case.id)
    status: str = "unchecked" if verdict is None else verdict.status
    if status == "quarantined" and case.id not in workspace.verdicts.quarantined:
        status = "released"
    findings = () if verdict is None else verdict.findings
    return {
        "status": status,
        "findings": [
            {"severity": found.severity, "modalities": list(found.modalities), "sentence": found.sentence}
            for found in findings
        ],
    }


def _rank(workspace: Workspace, case: Case, score: CaseScore) -> dict[str, Any]:
    """Rank of the case in the current order, and the reason."""
    strategy, plan = workspace.settings.strategy, workspace.plan.current()
    order = workspace.plan.order(strategy, plan=plan.id) if plan else ()
    known = {"rank": None, "of": len(order), "chosen": False, "strategy": strategy}
    if case.id in workspace.verdicts.quarantined:
        return {**known, "reason": "Held back by the pool check: it is offered once someone releases it."}
    if not order:
        return {**known, "reason": "No plan yet: the pool is not scored, so its rank is not known."}
    if case.id not in order:
        return {**known, "reason": "Not in the plan: the case is newer. Score the pool again to rank it."}
    rank = order.index(case.id) + 1
    return {
        **known,
        "rank": rank,
        "chosen": rank <= budgeted(workspace, plan, strategy),
        "reason": reason(score, rank, len(order), strategy=strategy),
        "warnings": score.warnings(),
    }


def _modality(case: Case, name: str, source: Source) -> dict[str, Any]:
    return {"name": name, **display_window(name), **_grid(source)}


def _grid(source: Source) -> dict[str, Any]:
    """Shape and voxel size along W, H, D, as viewers show them; unknown for a series not fetched yet."""
    if isinstance(source, RemoteSeries) and not source.path.exists():
        return {"shape": None, "voxel_mm": None, "problem": None}
    try:
        grid = read_grid(source)
    except UserError as err:
        return {"shape": None, "voxel_mm": None, "problem": str(err)}
    voxel_mm = [round(size, 3) for size in reversed(grid.spacing)]
    return {"shape": list(reversed(grid.shape)), "voxel_mm": voxel_mm, "problem": None}


def _written_at(files: CaseFiles, case: Case, tag: str) -> dict[str, Any]:
    return {"written": files.workspace.labels.notes(case, tag).get("written")}


def _versions(files: CaseFiles, case: Case) -> list[dict[str, Any]]:
    """Versions of the labels, newest first; only the name of the reader says who."""
    log = files.workspace.labels.log
    current = {version.key for version in log.current.get(case.id, {}).values() if version.is_label}
    return [
        {
            "tag": version.tag,
            "number": version.number,
            "kind": version.kind,
            "reader": version.reader,
            "written": version.written,
            "is_label": version.is_label,
            "current": version.key in current,
            **{key: version.about[key] for key in _SHOWN_OF_A_VERSION if key in version.about},
        }
        for version in reversed(log.of_case(case.id))
    ]


def _differences(files: CaseFiles, case: Case) -> list[dict[str, Any]]:
    """Maps of where modalities differ: the colour range, and the place that differs most."""
    differences = place_differences(files.workspace)
    return [
        {
            "pair": pair,
            "low": round(colour_range(differences, pair).low, 3),
            "high": round(colour_range(differences, pair).high, 3),
            "most_mm": files.most_different(case, pair),
        }
        for pair in differences.pairs_of(case.id)
    ]


def _model(files: CaseFiles) -> dict[str, Any] | None:
    """Version of the model that answers, and the contribution maps that can be shown."""
    model = files.segmenter.published()
    if model is None:
        return None
    return {
        "version": int(model.file.stem) if model.file.stem.isdecimal() else None,
        "maps": [
            {"measure": measure, "unit": MEASURE_UNITS[measure], "sender": sender, "subtask": subtask}
            for measure in MEASURES
            if measure in _SHOWN_MAPS
            for sender, subtask in links_of(files.workspace.decomposition, measure)
        ],
    }


def _event(event: Event) -> dict[str, Any]:
    shown = ("rank", "strategy", "plan", "cases", "version", "of")
    kept = {key: event.details[key] for key in shown if key in event.details}
    return {
        "at": event.at.isoformat(timespec="seconds"),
        "kind": event.kind,
        "who": event.annotator,
        **kept,
    }
