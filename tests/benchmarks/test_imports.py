"""Nothing in the benchmarks imports a script or a test, there is no cycle, and every name leads somewhere."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter

import pytest

from benchmarks.common.folders import ROOT

BENCHMARKS = ROOT / "benchmarks"
TEXTS = [
    ROOT / "Makefile",
    *(file for kind in ("py", "yaml", "md") for file in BENCHMARKS.rglob(f"*.{kind}")),
]
NAMED = re.compile(r"\b(benchmarks(?:\.\w+)+)(?: import (\w+))?")  # a module, perhaps something in it


def trees(sources: Mapping[str, str]) -> dict[str, ast.Module]:
    return {name: ast.parse(source) for name, source in sources.items()}


def modules() -> dict[str, str]:
    """The source of every module by its dotted name; a package has that of its folder, or of its command."""
    found = {}
    for file in sorted(BENCHMARKS.rglob("*.py")):
        parts = file.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] in ("__init__", "__main__") else parts)] = file.read_text()
    return found


def imported(name: str, tree: ast.Module, known: Mapping[str, object]) -> Iterator[str]:
    """What a module imports, wherever in it; of `from a import b` a.b where that is a module, else a."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                raise ValueError(f"{name} must import by whole names; line {node.lineno} is relative.")
            for alias in node.names:
                within = f"{node.module}.{alias.name}"
                yield within if within in known else str(node.module)


def is_script(tree: ast.Module) -> bool:
    """Whether a module has a command line: `if __name__ == "__main__"`, or an app or run of typer."""
    called = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    guards = {ast.unparse(node.test) for node in tree.body if isinstance(node, ast.If)}
    return bool(called & {"typer.run", "typer.Typer", "Typer"}) or "__name__ == '__main__'" in guards


def violations(sources: Mapping[str, str]) -> list[str]:
    parsed = trees(sources)
    scripts = {name for name, tree in parsed.items() if is_script(tree)}
    arrows = {name: set(imported(name, tree, parsed)) for name, tree in parsed.items()}
    found = [
        f"{name} imports {other}, {'a script' if other in scripts else 'a test'}"
        for name, others in arrows.items()
        for other in sorted(others)
        if other in scripts or other.split(".")[0] == "tests"
    ]
    try:
        TopologicalSorter({name: others & parsed.keys() for name, others in arrows.items()}).prepare()
    except CycleError as err:
        found.append("a cycle: " + " → ".join(err.args[1]))
    return found


def test_no_module_imports_a_script_or_a_test_and_there_is_no_cycle() -> None:
    assert violations(modules()) == []


def test_scripts_are_recognised_and_none_is_in_common() -> None:
    scripts = {name for name, tree in trees(modules()).items() if is_script(tree)}
    assert {"benchmarks.server.next_sample", "benchmarks.label_efficiency.run"} <= scripts
    assert not any(name.startswith("benchmarks.common") for name in scripts)


def test_the_readme_names_every_script() -> None:
    commands = set(re.findall(r"`python -m ([\w.]+)", (BENCHMARKS / "README.md").read_text()))
    assert commands == {name for name, tree in trees(modules()).items() if is_script(tree)}


def test_every_file_that_the_readme_links_to_is_there() -> None:
    links = re.findall(r"\]\(([^)]+)\)", (BENCHMARKS / "README.md").read_text())
    assert [link for link in links if not (BENCHMARKS / link).exists()] == []


SCRIPT = "import typer\ndef main() -> None: ...\nif __name__ == '__main__':\n    typer.run(main)\n"


@pytest.mark.parametrize(
    ("sources", "expected"),
    [
        ({"b.one": "from b.two import main\n", "b.two": SCRIPT}, "b.one imports b.two, a script"),
        ({"b.one": "from b import two\n", "b.two": SCRIPT}, "b.one imports b.two, a script"),
        ({"b.one": "def f():\n    import b.two\n", "b.two": SCRIPT}, "b.one imports b.two, a script"),
        ({"b.one": "import b.two\n", "b.two": "app = typer.Typer()\n"}, "b.one imports b.two, a script"),
        ({"b.one": "from tests.support.server import x\n"}, "b.one imports tests.support.server, a test"),
        ({"b.one": "import b.two\n", "b.two": "def f():\n    from b.one import x\n"}, "a cycle: b.*"),
    ],
)
def test_a_violation_is_told(sources: dict[str, str], expected: str) -> None:
    (found,) = violations(sources)
    assert re.fullmatch(expected, found)


def unknown(text: str, known: Mapping[str, str]) -> list[str]:
    """Names in a text that are neither a module nor something in one."""
    found = []
    for match in NAMED.finditer(text):
        name = f"{match[1]}.{match[2]}" if match[2] else match[1]
        module, _, last = name.rpartition(".")
        if name not in known and not re.search(rf"\b{last}\b", known.get(module, "")):
            found.append(name)
    return found


def test_every_module_that_a_text_names_is_there() -> None:
    """Also where a string starts a module in another process."""
    known = modules()
    assert {str(file): names for file in TEXTS if (names := unknown(file.read_text(), known))} == {}


def test_a_name_of_no_module_is_told() -> None:
    known = {"benchmarks.server": "", "benchmarks.server.one": "def tell() -> None: ..."}
    assert unknown("-m benchmarks.server.one, from benchmarks.server import one", known) == []
    assert unknown("`benchmarks.server.one.tell`", known) == []
    assert unknown("-m benchmarks.one", known) == ["benchmarks.one"]
    assert unknown("from benchmarks.server import two as b", known) == ["benchmarks.server.two"]
