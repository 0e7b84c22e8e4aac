"""What several commands share: where the studies are, the settings, where to write."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from lib.runtime.errors import UserError

console = Console()

Studies = Annotated[
    str,
    typer.Argument(
        help="Folder that holds the patients, or http(s) address of a DICOMweb server.", show_default=False
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
