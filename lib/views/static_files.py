"""The page's own files, and the security policies that let nothing else run."""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path

STATIC = Path(__file__).parent / "static"
IMPORTS = "mdal/"  # prefix of the page's modules in imports
_INLINE = re.compile(r"<(script|style)(?![^>]*\bsrc=)[^>]*>(.+?)</\1>", re.DOTALL)


def policy(document: str, *, scripts: str = "'self'", styles: str = "'self'", others: str = "") -> str:
    """Content-Security-Policy that allows the inline code of an HTML document, and the given sources.

    Args:
        document: HTML as it is sent; the policy holds a hash of each of its inline scripts and styles.
        scripts: Further sources of scripts.
        styles: Further sources of styles.
        others: Further directives.
    """
    inline: dict[str, list[str]] = {"script": [], "style": []}
    for kind, text in _INLINE.findall(document):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        inline[kind].append(f"'sha256-{digest}'")
    directives = [
        "default-src 'none'",
        " ".join(["script-src", *filter(None, [scripts]), *inline["script"]]),
        " ".join(["style-src", *filter(None, [styles]), *inline["style"]]),
        "img-src 'self' blob: data:",
        "base-uri 'none'",
        *filter(None, [others]),
    ]
    return "; ".join(directives)
