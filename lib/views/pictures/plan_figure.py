"""plan.png: the pool on a map, the modality difference, and the first cases."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator

from lib.mdal import pair_names
from lib.mdal.representation.projection import projected
from lib.pipeline.place_differences import PlaceDifferences, place_differences
from lib.pipeline.plan_document import MDAL_METHOD, PlanDocument, PlannedCase
from lib.pipeline.workspace import Workspace
from lib.runtime.errors import UserError
from lib.runtime.files import replacing
from lib.runtime.words import counted
from lib.views.pictures.saving import save_png
from lib.views.pictures.thumbnails import Thumbnail, thumbnail

PICTURED_CASES = 8  # cases with thumbnails
NUMBERED = 20  # cases with their rank on the map
_COLUMNS = 4
_CHOSEN, _GREY, _WARNING = "#d1345b", "#9aa5b1", "#b45309"
_SIZE_INCHES, _DPI = (15.0, 12.5), 110


def write_figure(document: PlanDocument, workspace: Workspace, path: Path) -> None:
    """Draw a plan and put it into a PNG file, atomically; the same plan gives the same bytes."""
    figure = draw(document, workspace)
    with replacing(path) as part:
        save_png(figure, part)


def draw(document: PlanDocument, workspace: Workspace) -> Figure:
    """The figure: a map and a histogram above, thumbnails of the first chosen cases below."""
    shown = document.chosen[:PICTURED_CASES]
    rows = -(-len(shown) // _COLUMNS)
    width, height = _SIZE_INCHES
    figure = Figure((width, height * (0.52 + 0.24 * rows)), dpi=_DPI, layout="constrained")
    figure.suptitle(_title(document), fontsize=15, fontweight="bold", parse_math=False)
    parts = figure.subfigures(2, 1, squeeze=False, height_ratios=(0.46, 0.26 * rows), hspace=0.02)
    above, below = parts.ravel()
    if document.scored:
        left, right = above.subplots(1, 2, width_ratios=(1.35, 1.0))
        _draw_map(left, document)
        _draw_histogram(right, document)
    else:
        _draw_sentence(above, " ".join(document.about.get("warnings", [])))
    _draw_cases(below, shown, workspace)
    return figure


def _title(document: PlanDocument) -> str:
    failed = sum(gate["passed"] is False and gate["of_the_order"] for gate in document.gates)
    rule = f"budget {document.budget}" if str(document.budget) else "no budget"
    title = f"Plan by {document.strategy}, {rule}: {len(document.chosen)} of {counted(len(document.cases))}"
    if failed:
        title += f"; {failed} of {len(document.gates)} gates failed, read them first"
    return f"{title}\n{MDAL_METHOD}"


def _draw_map(axes: Axes, document: PlanDocument) -> None:
    cases = [case for case in document.cases if case.score.features is not None]
    points, share = projected(
        np.stack([case.score.features for case in cases if case.score.features is not None])
    )
    difference = np.array([case.score.difference for case in cases], dtype=np.float64)
    chosen = np.array([case.chosen for case in cases])
    size = float(np.clip(4000 / len(cases), 12, 90))
    limit = max(float(np.percentile(np.abs(difference), 98)), 1e-6)
    found = axes.scatter(
        points[:, 0],
        points[:, 1],
        c=difference,
        s=size,
        cmap="viridis",
        vmin=-limit,
        vmax=limit,
        linewidths=0,
        zorder=2,
    )
    axes.scatter(
        points[chosen, 0], points[chosen, 1], s=2.2 * size, facecolors="none", edgecolors=_CHOSEN,
        linewidths=float(np.clip(size / 40, 0.7, 1.8)), zorder=3,
    )  # fmt: skip
    for point, case in zip(points, cases, strict=True):
        if case.chosen and case.rank <= NUMBERED:
            number = axes.annotate(
                str(case.rank), point, xytext=(7, 6), textcoords="offset points", fontsize=11,
                fontweight="bold", color=_CHOSEN, zorder=4,
            )  # fmt: skip
            number.set_path_effects([withStroke(linewidth=3, foreground="white")])
    axes.figure.colorbar(found, ax=axes, label="modality difference (standardised)", pad=0.01, aspect=30)
    ranked = ", with their rank" if chosen.sum() <= NUMBERED else f", the first {NUMBERED} with their rank"
    axes.set_title(
        f"Map of the pool: near means similar; rings mark the {chosen.sum()} chosen{ranked}",
        fontsize=12,
    )
    axes.set_xlabel(f"first principal component of the features ({share[0]:.0%})")
    axes.set_ylabel(f"second ({share[1]:.0%})")
    axes.margins(0.08)
    axes.set_xticks([])
    axes.set_yticks([])


def _draw_histogram(axes: Axes, document: PlanDocument) -> None:
    scored = [case for case in document.cases if case.score.difference is not None]
    difference = np.array([case.score.difference for case in scored], dtype=np.float64)
    chosen = np.array([case.chosen for case in scored])
    edges = np.histogram_bin_edges(difference, bins=int(np.clip(2 * len(scored) ** 0.5, 8, 50)))
    axes.hist(
        [difference[chosen], difference[~chosen]], edges.tolist(), stacked=True, color=[_CHOSEN, _GREY],
        label=["chosen", "not chosen"], edgecolor="white", linewidth=0.6, zorder=2,
    )  # fmt: skip
    extreme = [case.score.difference for case in scored if case.score.extreme]
    if extreme:
        end = axes.get_xlim()[1]
        start = min(*(value for value in extreme if value is not None), edges[-1] - 0.03 * np.ptp(edges))
        axes.axvspan(
            start, end, ymax=0.8, color=_WARNING, alpha=0.3, zorder=3, linewidth=0,
            label="extreme: look for damaged scans",
        )  # fmt: skip
        axes.set_xlim(right=end)
    axes.set_title("Modality difference in the pool", fontsize=12)
    axes.set_xlabel("modality difference (standardised); larger: modalities agree less")
    axes.set_ylabel("cases")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylim(top=1.25 * axes.get_ylim()[1])  # room for the legend
    axes.legend(loc="upper left", ncols=3, frameon=False)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _draw_sentence(part: SubFigure, sentence: str) -> None:
    axes = part.subplots()
    axes.axis("off")
    axes.text(
        0.5, 0.5, sentence, ha="center", va="center", fontsize=15, color=_WARNING, wrap=True, parse_math=False
    )


def _draw_cases(part: SubFigure, shown: tuple[PlannedCase, ...], workspace: Workspace) -> None:
    """Draw two slices per case; for a case that can no longer be read, the reason."""
    differences = place_differences(workspace)
    part.suptitle(
        "The first chosen cases, in the two modalities that differ most, boxed at the most different place"
        if differences.rows
        else "The first chosen cases",
        fontsize=12,
    )
    rows = -(-len(shown) // _COLUMNS)
    cells = part.subfigures(rows, _COLUMNS, squeeze=False, wspace=0.03, hspace=0.03).ravel()
    for cell, case in zip(cells, shown, strict=False):
        cell.suptitle(_caption(case), fontsize=10.5, fontweight="bold", parse_math=False)
        try:
            _draw_thumbnail(cell, _thumbnail(case, workspace, differences))
        except UserError as err:
            _draw_sentence(cell, str(err))


def _caption(case: PlannedCase) -> str:
    name = case.id if len(case.id) <= 28 else f"{case.id[:26]}…"
    score = case.score
    if score.difference is None or score.percentile is None:
        return f"{case.rank}.  {name}"
    return f"{case.rank}.  {name}   MD {score.difference:+.2f}, percentile {score.percentile:.0f}"


def _thumbnail(case: PlannedCase, workspace: Workspace, differences: PlaceDifferences) -> Thumbnail:
    prepared, pair = (
        workspace.cache.get(workspace.pool.by_id[case.id]),
        case.score.details.get("most_different_pair"),
    )
    named = dict(zip(pair_names(prepared.modalities), combinations(prepared.modalities, 2), strict=True))
    had = [name for name, present in zip(prepared.modalities, prepared.present, strict=True) if present]
    marked = differences.most_different(prepared)
    return thumbnail(prepared, named.get(str(pair), had[:2]), marked)


def _draw_thumbnail(cell: SubFigure, shown: Thumbnail) -> None:
    height, width = shown.size_mm
    tall = height > 1.3 * width
    places = np.ravel(cell.subplots(1, 2 if tall else max(1, len(shown.images)), squeeze=False))
    for axes in places[len(shown.images) :]:
        axes.axis("off")
    for axes, name, image in zip(places, shown.modalities, shown.images, strict=False):
        axes.imshow(
            image, cmap="gray", vmin=0.0, vmax=1.0, extent=(0.0, width, height, 0.0), interpolation="bilinear"
        )
        axes.set(xticks=[], yticks=[], anchor="N")
        axes.spines[:].set_color(_GREY)
        axes.set_title(name, fontsize=9.5, parse_math=False, pad=3)
        if shown.marked_mm:
            left, top, across, down = shown.marked_mm
            axes.add_patch(Rectangle((left, top), across, down, fill=False, edgecolor=_CHOSEN, linewidth=1.6))
