"""Protocols: YAML files that hold everything that decides an outcome, written before the runs."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from lib.ciml.training.settings import TrainingSettings

LONGEST_EPOCH = 50  # steps


class Part(BaseModel):
    """A part of a protocol; an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


AnyPart = TypeVar("AnyPart", bound=Part)


def read_protocol(kind: type[AnyPart], path: Path) -> AnyPart:
    """Read a YAML file.

    Raises:
        ValueError: If the file does not fit the kind of protocol.
    """
    content: Any = yaml.safe_load(path.read_text())
    try:
        return kind.model_validate(content)
    except ValidationError as err:
        first = err.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise ValueError(
            f"{place} of {path.name} must fit the protocol: {first['msg']}; got {first['input']!r}. "
            f"See {kind.__module__.replace('.', '/')}.py."
        ) from err


def digest_of(value: object) -> str:
    """Short hash of plain values."""
    return hashlib.blake2b(json.dumps(value, sort_keys=True).encode(), digest_size=6).hexdigest()


def with_steps(settings: TrainingSettings, steps: int) -> TrainingSettings:
    """Training settings with exactly this number of steps, in epochs of at most 50 steps."""
    each = math.gcd(steps, LONGEST_EPOCH)
    return replace(settings, epochs=steps // each, steps_per_epoch=each)
