"""Secrets in addresses: taken out at the start, kept in this process's environment, never shown.

Answers, logs, the program's own files and the command lines of child processes hold addresses. Child
processes inherit the environment, and the libraries that connect read the secrets there.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from lib.cases.dicomweb.client import PASSWORD, USER
from lib.pipeline.folders import is_address

DATABASE_PASSWORD = "PGPASSWORD"  # read by PostgreSQL's library
_SECRET = re.compile(  # a user and a password before a host, or a value of a query
    r"""(?<=://)[^\s'"/?\#@]*:[^\s'"]*(?=@)|([?&]\w*(?:password|token|secret|key)\w*=)[^\s&'"]+""", re.I
)
_LOG_ENCODING = "latin-1"  # one character a byte, whatever a log holds


def take_pacs_secret(studies: str) -> str:
    """Move the user and the password in the address of a PACS to the environment.

    Args:
        studies: A folder, or the address of a DICOMweb server, percent-encoded as addresses are.

    Returns:
        The studies without user and password; an address that cannot be understood stays as it is.
    """
    if not is_address(studies):
        return studies
    try:
        parts = urlsplit(studies)
    except ValueError:
        return studies
    if not parts.username or not parts.password:
        return studies
    os.environ[USER], os.environ[PASSWORD] = unquote(parts.username), unquote(parts.password)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def take_database_secret(url: str) -> str:
    """Move the password in the address of a PostgreSQL database to the environment.

    Returns:
        The address without the password; an address that cannot be understood stays as it is.
    """
    try:
        address = make_url(url)
    except ArgumentError:
        return url
    in_query = address.query.get("password", "")
    secret = address.password or (in_query if isinstance(in_query, str) else "")
    if not secret or address.get_backend_name() != "postgresql":
        return url
    os.environ[DATABASE_PASSWORD] = secret
    bare = address.difference_update_query(["password"])._replace(password=None)  # `set` keeps it at None
    return bare.render_as_string(hide_password=False)


def take_setting_secrets(conf: Mapping[str, str]) -> dict[str, str]:
    """Settings without the secrets in their values, which are in the environment from now on."""
    url = conf.get("database_url")
    return {**conf, "database_url": take_database_secret(url)} if isinstance(url, str) else dict(conf)


def masked(text: str) -> str:
    """Text with each secret in an address replaced by as many asterisks."""
    return _SECRET.sub(_asterisks, text)


def mask_logs(folder: Path) -> None:
    """Mask the secrets in log files, which a framework wrote before it loaded this program.

    The files keep their lengths, because they are open for appending.
    """
    for log in folder.glob("*.log*"):
        text = log.read_bytes().decode(_LOG_ENCODING)
        if (without := masked(text)) != text:
            with log.open("r+b") as stream:
                stream.write(without.encode(_LOG_ENCODING))


def _asterisks(found: re.Match[str]) -> str:
    kept = found[1] or ""
    return kept + "*" * (len(found[0]) - len(kept))
