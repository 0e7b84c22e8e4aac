"""Labels whose images were replaced after they were drawn: files of the same names with another content."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from lib.cases.case import Case
from lib.cases.discovery.found_pool import FoundPool
from lib.labels.version_log import VersionLog
from lib.labels.versions import LabelVersion

Hashes = Mapping[str, str]  # of the image of each modality
ImageHashes = Callable[[Sequence[Case]], Mapping[str, Hashes]]  # of the cases that can be read, by id
IMAGES = "images"  # what `LabelVersion.about` calls the hashes of the images that a label was drawn on


class ImageChanges:
    """Compares the images of labelled cases with those that the labels were drawn on."""

    def __init__(self, found: FoundPool, log: VersionLog, hashes: ImageHashes) -> None:
        """Look at the labels of a pool; nothing is compared yet."""
        self._found, self._log, self._hashes = found, log, hashes
        self._seen: tuple[Any, Any] = (None, None)
        self._sentences: list[str] = []

    def sentences(self) -> list[str]:
        """One sentence for each current label whose images have changed since."""
        pool, current = self._found.pool, self._log.current
        if self._seen[0] is not pool or self._seen[1] is not current:  # replaced on change
            drawn = [
                version
                for versions in current.values()
                for version in versions.values()
                if version.is_label and IMAGES in version.about and version.case_id in pool.by_id
            ]
            now = self._hashes([pool.by_id[id] for id in {version.case_id for version in drawn}])
            self._sentences = [
                _sentence(version)
                for version in drawn
                if _differ(version.about[IMAGES], now.get(version.case_id, {}))
            ]
            self._seen = pool, current
        return self._sentences


def _differ(before: Hashes, now: Hashes) -> bool:
    """Whether an image is another; one that came or went changes none of the others."""
    return any(before[name] != now[name] for name in before.keys() & now.keys())


def _sentence(version: LabelVersion) -> str:
    reader = f" by {version.reader}" if version.reader else ""
    when = datetime.fromisoformat(version.written)
    return (
        f"the images of {version.case_id} changed after its label was drawn{reader} on {when:%Y-%m-%d}. "
        "Compare them: submit the label again if it no longer fits; else make its version current again."
    )
