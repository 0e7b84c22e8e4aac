"""What several commands share: where the studies are, the settings, where to write."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.console import Console
from typer.core import TyperCommand

from lib.cases.dicomweb.client import PASSWORD, USER
from lib.pipeline.secrets import DATABASE_PASSWORD, take_database_secret, take_pacs_secret
from lib.runtime.errors import UserError

console = Console()


class Command(TyperCommand):
    """A command whose help shows a flag as a flag, which takes no value."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Arguments and options."""
        params = super().get_params(ctx)
        for param in params:
            if getattr(param, "is_flag", False):
                param.metavar = ""
        return params


def _without_secret(studies: str) -> str:
    """Address whose password is in the environment from now on; nothing prints it."""
    taken = take_pacs_secret(studies)
    if taken != studies:
        _warn_of_secret(USER, PASSWORD)
    return taken


def _without_secrets(conf: list[str] | None) -> list[str] | None:
    """Settings whose secrets are in the environment from now on."""
    taken = [_without_database_secret(item) for item in conf or []]
    if taken != (conf or []):
        _warn_of_secret(DATABASE_PASSWORD)
    return taken


def _without_database_secret(item: str) -> str:
    key, equals, value = item.partition("=")
    if not equals or key.strip() != "database_url":
        return item
    return f"{key}={take_database_secret(value.strip())}"


def _warn_of_secret(*variables: str) -> None:
    console.print(
        "[yellow]The password on the command line is used and not shown again. `ps` and the shell's history "
        f"still show it: set {' and '.join(variables)} in the environment instead.[/]",
        highlight=False,
    )


Studies = Annotated[
    str,
    typer.Argument(
        help="Folder that holds the patients, or http(s) address of a DICOMweb server.",
        show_default=False,
        callback=_without_secret,
    ),
]
Conf = Annotated[
    list[str] | None,
    typer.Option(
        "--conf",
        "-c",
        metavar="KEY=VALUE",
        show_default=False,
        help="A setting; `python main.py settings` lists them.",
        callback=_without_secrets,
    ),
]


def key_values(conf: list[str] | None) -> dict[str, str]:
    """The `--conf` options as pairs.

    Raises:
        UserError: If one is no pair.
    """
    pairs = {}
    for item in conf or []:
        key, equals, value = item.partition("=")
        if not equals:
            raise UserError(f"--conf must be KEY=VALUE; got {item!r}. See `python main.py settings`.")
        pairs[key.strip()] = value.strip()
    return pairs


def device_among(conf: list[str] | None) -> str:
    """The device among the `--conf` options, `auto` if none; what is no pair is left to `key_values`.

    Under torchrun every rank needs the device, and the first alone says what is wrong with the options.
    """
    return key_values([item for item in conf or [] if "=" in item]).get("device", "auto")
