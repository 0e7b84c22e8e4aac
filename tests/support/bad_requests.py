"""Requests that do not fit, made from the OpenAPI of a server: each argument in turn, and each body."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote_from_bytes

VALUES: dict[str, bytes] = {
    "too long for a file": b"x" * 258,
    "too long with a suffix": b"x" * 300 + b".nii.gz",
    "longer than a page": b"x" * 5000,
    "of two bytes a letter": "é".encode() * 200,
    "a NUL": b"a\0b",
    "a line break": b"a\r\nX: y",
    "no text": b"\xff\xfe",
    "half a character": b"\xed\xa0\x80",  # a lone surrogate
    "the folder above": b"..",
    "a file elsewhere": b"../../../../etc/passwd",
    "an absolute path": b"/etc/passwd",
    "percent twice": b"%2e%2e%2f",
    "nothing": b"",
    "a space": b" ",
    "below zero": b"-1",
    "too large": b"9" * 400,
    "infinite": b"1e999",
    "not a number": b"NaN",
    "a list": b"[1]",
    "an object": b'{"a": 1}',
    "a quote": b"' OR '1'='1",
    "markup": b"<script>alert(1)</script>",
    "a format": b"{0.__class__}%s%n",
}
JSON: dict[str, bytes] = {
    "cut": b"{",
    "a list": b"[1]",
    "a number": b"3",
    "null": b"null",
    "text": b'"x"',
    "NaN": b'{"a": NaN}',
    "infinite": b'{"a": -Infinity}',
    "beyond any number": b'{"a": 1e999, "max_epochs": 1e999, "version": 1e999}',
    "a number of 5000 digits": b'{"a": ' + b"9" * 5000 + b"}",
    "a key twice": b'{"a": 1, "a": 2}',
    "nested too deeply to read": b"[" * 100_000,
    "nested too deeply to keep": b'{"a": ' * 500 + b"1" + b"}" * 500,
    "half a character": b'{"a": "\\ud800", "client_id": "\\ud800"}',
    "a NUL": b'{"a\\u0000": 1, "client_id": "a\\u0000"}',
    "below zero": b'{"max_epochs": -1, "max_workers": -1, "version": -1, "client_id": -1}',
    "other kinds": b'{"max_epochs": [], "max_workers": {}, "version": "x", "label_tag": 3, "client_id": []}',
    "keys of the server": b'{"written": 5, "dicom_seg": "x", "id": 1, "path": "/etc", "label_info": 3}',
    "no text": b"\xff\xfe\x00",
    "nothing": b"",
}
KINDS = ("application/json", "text/plain", "application/xml", "multipart/form-data", "", "x" * 300)


@dataclass(frozen=True)
class BadRequest:
    """A request, and what is wrong with it."""

    about: str
    method: str
    path: str
    options: dict[str, Any] = field(default_factory=dict)


def bad_requests(schema: Mapping[str, Any], good: Mapping[str, str]) -> Iterator[BadRequest]:
    """Every argument of every operation with each value, and every body with each content.

    Args:
        schema: OpenAPI of a server.
        good: Values of arguments that exist, so that a request gets as far as the argument that does not fit.
    """
    for path, operations in schema["paths"].items():
        for method, operation in operations.items():
            parameters = [
                (each["name"], each["in"])
                for each in operation.get("parameters", [])
                if each["name"] != "token"  # of the login; nobody reads it while that is off
            ]
            known = {name: good[name].encode() for name, _ in parameters if name in good}
            for name, _ in parameters:
                for about, value in VALUES.items():
                    arguments = {**known, name: value}
                    yield BadRequest(f"{name} is {about}", method, _filled(path, parameters, arguments))
            address = _filled(path, parameters, known)
            for about, options in _bodies(operation.get("requestBody", {}).get("content", {}), schema):
                yield BadRequest(f"a body with {about}", method, address, options)


def _filled(path: str, parameters: list[tuple[str, str]], arguments: Mapping[str, bytes]) -> str:
    query = []
    for name, place in parameters:
        value = quote_from_bytes(arguments.get(name, b"x"), safe="")
        if place == "path":
            path = path.replace(f"{{{name}}}", value)
        elif place == "query" and name in arguments:
            query.append(f"{name}={value}")
    return f"{path}?{'&'.join(query)}"


def _bodies(content: Mapping[str, Any], schema: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for kind, body in content.items():
        for about, text in JSON.items():
            if kind == "application/json":
                yield about, {"data": text, "headers": {"Content-Type": kind}}
                continue
            for name in _properties(body["schema"], schema):
                yield f"{about} as {name}", {"files": {name: (None, text)}}
                yield f"{about} as the file {name}", {"files": {name: (f"{'x' * 300}.nii.gz", text)}}
        for other in KINDS:
            for text in (b"", b"{", b"\xff\xfe", b"--x\r\n"):
                yield f"{text!r} as {other[:20]!r}", {"data": text, "headers": {"Content-Type": other}}


def _properties(body: Mapping[str, Any], schema: Mapping[str, Any]) -> list[str]:
    """Names of a form's fields."""
    reference = body.get("$ref") or body.get("allOf", [{}])[0].get("$ref", "")
    named = schema["components"]["schemas"].get(reference.rpartition("/")[2], body)
    return list(named.get("properties", {}))
