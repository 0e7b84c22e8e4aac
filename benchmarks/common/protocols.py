"""Protocols: YAML files that hold everything that decides an outcome, written before the runs."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from lib.ciml.training.settings import TrainingSettings

LONGEST_EPOCH = 50  # steps


class Part(BaseModel):
    """A part of a protocol; an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class PoolProtocol(Part):
    """A study of a pool that is divided into candidates and test patients.

    Attributes:
        name: Name of the pool.
        frozen: Date on which everything that decides the outcome was settled, before the first run.
        modalities: Modalities that are seen, by the pool's names.
        layout: Layout of the pool.
        without: Reason for each case that is left out, by id.
        test: Test patients, who are used for nothing else: `truth` takes those of the pool's truth.csv, a
            number takes the first so many by the SHA-256 of their id, and a list names their ids.
        splits: Number of divisions into candidates and test patients. With more than one, `test` is a number,
            and each division takes the first by the SHA-256 of its own number and the id.
        primary_end_point: Primary end point in words; it is the first table of the report.
        notes: Further remarks for the report.
    """

    name: str
    frozen: date | None = None
    modalities: tuple[str, ...] = Field(min_length=2)
    layout: str = "auto"
    without: dict[str, str] = Field(default_factory=dict)
    test: Literal["truth"] | int | tuple[str, ...]
    splits: int = Field(1, ge=1)
    primary_end_point: str
    notes: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _divides_at_random(self) -> Self:
        if self.splits > 1 and not isinstance(self.test, int):
            raise ValueError("test must be a number with more than one split")
        return self

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a YAML file.

        Raises:
            ValueError: If the file does not fit the protocol.
        """
        content: Any = yaml.safe_load(path.read_text())
        try:
            return cls.model_validate(content)
        except ValidationError as err:
            first = err.errors()[0]
            place = ".".join(map(str, first["loc"]))
            raise ValueError(
                f"{place} of {path.name} must fit the protocol: {first['msg']}; got {first['input']!r}. "
                f"See {cls.__module__.replace('.', '/')}.py."
            ) from err


def digest_of(value: object) -> str:
    """Short hash of plain values."""
    return hashlib.blake2b(json.dumps(value, sort_keys=True).encode(), digest_size=6).hexdigest()


def with_steps(settings: TrainingSettings, steps: int) -> TrainingSettings:
    """Training settings with exactly this number of steps, in epochs of at most 50 steps."""
    each = math.gcd(steps, LONGEST_EPOCH)
    return replace(settings, epochs=steps // each, steps_per_epoch=each)
