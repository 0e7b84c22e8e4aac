"""A clinic's own table of subtasks or of series, read from a YAML file."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

YAML_SUFFIXES = (".yaml", ".yml")
MAX_TABLE_BYTES = 64 * 1024  # a usual table has one or two kilobytes


def read_table(path: Path, *, what: str, fields: str) -> dict[str, Any]:
    """Mapping in a YAML file; its fields are not checked.

    Args:
        path: Absolute path; the server and its child processes may run in different folders.
        what: Name of the setting that gives the path.
        fields: Expected fields of the mapping, for the error message.

    Raises:
        ValueError: If the file is missing, too large, or no mapping in plain YAML.
    """
    if not path.is_absolute():
        raise ValueError(
            f"{what} must be an absolute path; got {str(path)!r}. Set --conf {what}={path.absolute()}"
        )
    try:
        if not path.is_file():  # a pipe would never end
            raise ValueError(f"{what} must be a file; there is none at {path}. Correct the path.")
        with path.open("rb") as stream:
            content = stream.read(MAX_TABLE_BYTES + 1)
    except OSError as err:
        raise ValueError(f"{path} must be readable; {err.strerror}. Change its permissions.") from err
    if len(content) > MAX_TABLE_BYTES:
        raise ValueError(
            f"{path} must have at most {MAX_TABLE_BYTES} bytes; it has more. Is it another file?"
        )
    try:
        table = yaml.load(content.decode(), _PlainLoader)
    except (yaml.YAMLError, RecursionError, ValueError) as err:  # ValueError: not UTF-8, or no such date
        raise ValueError(f"{path} must be plain YAML; {_reason(err)}. Correct it there.") from err
    if not isinstance(table, dict):
        raise ValueError(
            f"{path} must be a mapping with the fields {fields}; got {str(table)[:80]!r}. See docs."
        )
    return table


class _PlainLoader(yaml.SafeLoader):
    """YAML without the features that make a file mean something else than it shows."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Refuse aliases: a few lines of aliases expand to gigabytes."""
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("an alias (*name) is not allowed")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """Refuse a field that is given twice; YAML libraries silently keep the last one."""
        names = set()
        for key, _ in node.value:
            if str(key.value) in names:
                raise yaml.MarkedYAMLError(problem=f"{key.value} is given twice", problem_mark=key.start_mark)
            names.add(str(key.value))
        return super().construct_mapping(node, deep=deep)


def _reason(err: Exception) -> str:
    if isinstance(err, RecursionError):
        return "it is nested too deeply"
    if isinstance(err, yaml.MarkedYAMLError) and err.problem_mark:
        return f"{err.problem} in line {err.problem_mark.line + 1}"
    return str(err).splitlines()[0]
