"""What README.md and the documents point at is there, and README.md is short enough to be read."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from lib.views.terminal.tables import settings_markdown

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
DOCUMENTS = [
    path
    for path in (
        README,
        *sorted((ROOT / "docs").glob("*.md")),
        ROOT / "benchmarks" / "README.md",
        *sorted((ROOT / "benchmarks" / "results").glob("*.md")),
    )
    if path.is_file()
]
MOST_WORDS = 900

_FENCED = re.compile(r"^ *(```|~~~).*?^ *\1", re.MULTILINE | re.DOTALL)
_TARGET = re.compile(r"\]\((?P<target>[^()\s]+)\)")
_HEADING = re.compile(r"^#{1,6} +(?P<text>.+?) *$", re.MULTILINE)
_BENCHMARK = re.compile(r"python -m (?P<module>benchmarks(?:\.\w+)+)")
_PROTOCOL = re.compile(r"\bbenchmarks/[\w/]+\.yaml")

each_document = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))


@each_document
def test_every_relative_link_and_picture_of_a_document_is_there(document: Path) -> None:
    assert [target for target in _relative_targets(document) if not _found(document, target)] == []


@each_document
def test_every_anchor_that_a_document_links_to_is_a_heading(document: Path) -> None:
    linked = [_parts(document, target) for target in _relative_targets(document)]
    documents = [(file, anchor) for file, anchor in linked if anchor and file.suffix == ".md"]
    assert [
        f"{file.name}#{anchor}"
        for file, anchor in documents
        if file.is_file() and anchor not in _anchors(file)
    ] == []


@each_document
def test_every_benchmark_that_a_document_names_can_be_run(document: Path) -> None:
    text = document.read_text()
    modules = [ROOT / match["module"].replace(".", "/") for match in _BENCHMARK.finditer(text)]
    missing = [str(each) for each in modules if not _is_command(each)]
    assert missing + [path for path in _PROTOCOL.findall(text) if not (ROOT / path).is_file()] == []


def _is_command(module: Path) -> bool:
    return module.with_suffix(".py").is_file() or (module / "__main__.py").is_file()


def test_the_readme_has_at_most_900_words() -> None:
    assert len(README.read_text().split()) <= MOST_WORDS


def test_an_anchor_is_what_github_makes_of_a_heading(tmp_path: Path) -> None:
    document = tmp_path / "document.md"
    document.write_text(
        "# How `representative` was settled?\n\n```\n# no heading\n```\n\n## Twice\n\n## Twice\n"
    )
    assert _anchors(document) == {"how-representative-was-settled", "twice", "twice-1"}


def test_a_link_to_a_file_that_is_not_there_is_found(tmp_path: Path) -> None:
    document = tmp_path / "document.md"
    document.write_text("[a](there.md) ![b](missing.png) [c](https://example.org) [d](#part)\n")
    (tmp_path / "there.md").touch()
    targets = _relative_targets(document)
    assert targets == ["there.md", "missing.png", "#part"]
    assert [target for target in targets if not _found(document, target)] == ["missing.png"]


def test_the_table_of_settings_is_the_one_that_the_program_prints() -> None:
    text = (ROOT / "docs" / "settings.md").read_text()
    table = text.partition("generated table begins -->\n")[2].partition("<!-- settings")[0]
    assert table == settings_markdown(), "run `python main.py settings --markdown` and put it there"


def _relative_targets(document: Path) -> list[str]:
    """Where a document's links and pictures point to, without those on the web."""
    text = _FENCED.sub("", document.read_text())
    return [
        match["target"]
        for match in _TARGET.finditer(text)
        if not re.match(r"[a-z][a-z0-9+.-]*:", match["target"])
    ]


def _parts(document: Path, target: str) -> tuple[Path, str]:
    """The file that a link points to, and the anchor in it; both as they would be."""
    path, _, anchor = target.partition("#")
    return (document.parent / path if path else document), anchor


def _found(document: Path, target: str) -> bool:
    return _parts(document, target)[0].exists()


def _anchors(document: Path) -> set[str]:
    """The anchors that GitHub gives a document's headings."""
    anchors, seen = set(), Counter[str]()
    for match in _HEADING.finditer(_FENCED.sub("", document.read_text())):
        plain = re.sub(r"[^\w\- ]", "", match["text"].lower()).replace(" ", "-")
        anchors.add(f"{plain}-{seen[plain]}" if seen[plain] else plain)
        seen[plain] += 1
    return anchors
