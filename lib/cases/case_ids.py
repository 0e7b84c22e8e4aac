"""Ids that hold: once a plan, an offer or a label may name a case, its id means the same images for ever."""

from __future__ import annotations

import json
import logging
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import replace
from pathlib import Path

from filelock import FileLock

from lib.cases.case import Case
from lib.cases.pool import Pool, image_of, in_order, names_of
from lib.cases.records import Records
from lib.runtime.errors import UserError
from lib.runtime.files import replacing
from lib.runtime.own_files import Damaged, as_damaged, read_document

logger = logging.getLogger(__name__)
Images = dict[str, int]  # size in bytes of the file of each image; 0 for a series, which its UID identifies
Book = dict[str, Images]
_RESTORE = (
    "It says which images each case id means: restore it from a backup. Move it away if there is none; "
    "folders then name the cases anew, so compare the labels with their images."
)
_OTHERS = (
    "the id {id} means images that are no longer there ({images}). Put them back to see their labels, plan "
    "and history again."
)
_SHOWN = 3  # images in a sentence
_CHANNEL = re.compile(r"#\d+\Z")  # of a 4-D file, see `image_of`


class CaseIds:
    """Book of the ids of cases with the images of each, beside the labels that are stored under these ids.

    It begins when a server starts, or when a plan or a label is stored: until then nothing refers to an id,
    and the names of folders and files alone decide. From then on ids and images are only added.
    """

    def __init__(self, file: Path, records: Callable[[], Records]) -> None:
        """Use the book in `file`, which need not exist.

        Args:
            file: JSON file.
            records: Opens the records of the files that were read; they tell which images were moved.
        """
        self.file, self._records = file, records

    def begin(self, pool: Pool) -> None:
        """Begin the book with the ids of a pool; if there is a book, they are added."""
        self._change(lambda book: (pool, _with_images(book, pool)))

    def hold(self, listing: Callable[[Set[str]], Pool]) -> Pool:
        """List the cases, each under the id that its images have in the book.

        Other cases get an id that no case had before. Images that were moved within the studies keep theirs.

        Args:
            listing: Lists the cases; images that it is given are taken before others of their modality.

        Raises:
            Damaged: If the book cannot be read.
        """
        book = self._read()
        pool = listing({image for images in book.values() for image in images})
        if not book:
            return pool
        held = self._held(pool, book)
        if _with_images(book, held) == book:
            return held
        return self._change(lambda book: ((held := self._held(pool, book)), _with_images(book, held))) or held

    def _change(self, change: Callable[[Book], tuple[Pool, Book]]) -> Pool | None:
        """Change the book while no other process does; None if nobody may write it here."""
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(self.file.with_name(f".{self.file.name}.lock")):
                book = self._read()
                pool, changed = change(book)
                if changed != book:
                    with replacing(self.file) as part:
                        part.write_text(json.dumps(changed))
                return pool
        except OSError as err:
            logger.info("the ids of the cases are not recorded in %s: %s", self.file, err)
            return None

    def _read(self) -> Book:
        try:
            return read_document(self.file, Book)
        except (FileNotFoundError, NotADirectoryError):
            return {}
        except Damaged as err:
            raise as_damaged(self.file, err, restore=_RESTORE) from err

    def _held(self, pool: Pool, book: Book) -> Pool:
        ids = _claimed(pool, book)
        if rest := [case for case in pool.cases if case.id not in ids]:
            ids |= self._moved(pool, rest, _absent(book, ids))
            ids |= _new_ids(pool, ids, book)
        absent = _absent(book, ids)
        cases = [_renamed(case, ids[case.id], absent.get(case.id, {})) for case in pool.cases]
        return replace(pool, cases=in_order(cases))

    def _moved(self, pool: Pool, rest: Iterable[Case], absent: Mapping[str, Images]) -> dict[str, str]:
        """Ids of the cases that hold an image of an absent id elsewhere in the studies, by present name."""
        by_size: dict[int, list[str]] = defaultdict(list)
        for id, images in absent.items():
            for size in {*images.values()} - {0}:
                by_size[size].append(id)
        found: dict[str, str] = {}
        for case in rest:
            alike = {id for size in _images(pool, case).values() for id in by_size.get(size, [])}
            for id in sorted(alike - {*found.values()}, key=lambda id: (id != case.id, id)):
                if self._same_content(pool.root, case, absent[id]):
                    found[case.id] = id
                    break
        return found

    def _same_content(self, root: Path, case: Case, images: Images) -> bool:
        """Whether a file of a case has the content that one of some images had when it was last read."""
        known = self._records().last_hashes(root / _CHANNEL.sub("", image) for image in images)
        if not known:
            return False
        try:
            return bool(known & {*self._records().file_hashes(case.modalities.values()).values()})
        except UserError:  # a file that cannot be read; the pool check says so
            return False


def _images(pool: Pool, case: Case) -> Images:
    """Images of a case with the sizes of their files."""
    found = {}
    for source in case.modalities.values():
        try:
            size = 0 if source.series else source.path.stat().st_size
        except OSError:  # removed since the listing
            size = 0
        found[image_of(source, pool.root)] = size
    return found


def _with_images(book: Book, pool: Pool) -> Book:
    """Book with the images of a pool added; an image that has an id keeps it."""
    known = {image for images in book.values() for image in images}
    added = {id: dict(images) for id, images in book.items()}
    for case in pool.cases:
        new = {image_of(source, pool.root) for source in case.modalities.values()} - known
        if new:
            sizes = _images(pool, case)
            added.setdefault(case.id, {}).update((image, sizes[image]) for image in sizes if image in new)
    return added


def _claimed(pool: Pool, book: Book) -> dict[str, str]:
    """Id in the book of each case that has images there, by present name; the one of most of its images."""
    owner = {image: id for id, images in book.items() for image in images}
    claims = []
    for case in pool.cases:
        images = (image_of(source, pool.root) for source in case.modalities.values())
        votes = Counter(owner[image] for image in images if image in owner)
        claims += [(-count, id != case.id, case.id, id) for id, count in votes.items()]
    ids: dict[str, str] = {}
    given: set[str] = set()
    for _, _, name, id in sorted(claims):
        if name not in ids and id not in given:
            ids[name] = id
            given.add(id)
    return ids


def _absent(book: Book, ids: Mapping[str, str]) -> Book:
    """Ids in the book that no case has now, with their images."""
    present = {*ids.values()}
    return {id: images for id, images in book.items() if id not in present}


def _new_ids(pool: Pool, ids: Mapping[str, str], book: Book) -> dict[str, str]:
    """Ids that no case has or had, for the cases without one, by present name."""
    rest = [case for case in pool.cases if case.id not in ids]
    held = (replace(case, id=ids[case.id]) for case in pool.cases if case.id in ids)
    taken = {id.lower() for id in book} | {name for case in held for name in names_of(case)}
    own = {case.id.lower() for case in rest}
    found = {}
    for case in rest:
        fresh, number = case, 1
        while names_of(fresh) & taken or (number > 1 and fresh.id.lower() in own):
            number += 1
            fresh = replace(case, id=f"{case.id}_{number}")
        taken |= names_of(fresh)
        found[case.id] = fresh.id
    return found


def _renamed(case: Case, id: str, others: Images) -> Case:
    """Case under its id; it says so if its own name is the id of images that are gone."""
    if id == case.id or not others:
        return replace(case, id=id)
    images = ", ".join([*sorted(others)[:_SHOWN], *(["…"] if len(others) > _SHOWN else [])])
    return replace(case, id=id, notes=(*case.notes, _OTHERS.format(id=case.id, images=images)))
