"""Checks a data set's images: which of those that the annotations name are missing or broken, and what is lost.

Every image is decoded to its last pixel, because a truncated file can have an intact header.
"""

import os
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from spn4cir.datasets.parts import are_enough, naming_parts
from spn4cir.datasets.protocol import AnnotatedSplit, Benchmark
from spn4cir.images.folders import Scan, scan_folder
from spn4cir.images.reading import is_there
from spn4cir.images.usable import image_faults
from spn4cir.images.workers import Workers
from spn4cir.types import Triplet
from spn4cir.utf8 import is_utf8, printable


@dataclass(frozen=True)
class Fault:
    """An image that the annotations name and that cannot be used.

    Attributes:
        name: name of the image in the annotations, with escapes for bytes that are not UTF-8.
        path: expected path, with such escapes; empty if no split file gives one.
        splits: splits that name the image, e.g. `val dress`.
        reason: the fault, as a phrase that follows the name.
    """

    name: str
    path: str
    splits: tuple[str, ...]
    reason: str


@dataclass(frozen=True)
class Cost:
    """The triplets and images that a split loses.

    Attributes:
        split: name of the split, e.g. `train`.
        category: FashionIQ's category; empty for other layouts.
        triplets: number of annotated triplets; these are queries, except in `train`.
        triplets_lost: number of triplets that need an image which cannot be used.
        images: number of images that the split needs; these are its gallery, except in `train`.
        missing: number of absent images.
        broken: number of images that cannot be decoded.
        empty_texts: number of triplets with a text that contains no word; such texts are used unchanged.
    """

    split: str
    category: str
    triplets: int
    triplets_lost: int
    images: int
    missing: int
    broken: int
    empty_texts: int


@dataclass(frozen=True)
class Check:
    """The result of a check.

    Attributes:
        root: the folder of the data set.
        checked: number of images that the annotations need.
        missing: absent images, sorted by name.
        broken: images that cannot be decoded or have a name that is not UTF-8, sorted by name.
        unlisted: image files that no annotation names, as paths relative to the root, with escapes for bytes that are
            not UTF-8.
        passed_over: number of files in the image folders that are not images, by ending (`spn4cir.images.endings`).
        costs: the losses of each split.
        absent_splits: published splits without annotation files, which are not checked.
        advice: settings that leave out categories or tasks without images.
        totals: the number found and the official number, by name of the total, in the folder of a published data set.
    """

    root: Path
    checked: int
    missing: tuple[Fault, ...]
    broken: tuple[Fault, ...]
    unlisted: tuple[str, ...]
    passed_over: Mapping[str, int]
    costs: tuple[Cost, ...]
    absent_splits: tuple[str, ...]
    advice: tuple[str, ...]
    totals: Mapping[str, tuple[int, int]]

    @property
    def is_whole(self) -> bool:
        """Whether all images that the annotations need are on disk and can be decoded."""
        return not self.missing and not self.broken

    @property
    def has_official_total(self) -> bool:
        """Whether any number is the official one. In drawn, private or reduced data none is."""
        return any(here == official for here, official in self.totals.values())

    def as_dict(self) -> dict[str, Any]:
        """Returns plain values for JSON, with complete lists."""
        return {
            "root": self.root.as_posix(),
            "ok": self.is_whole,
            "checked": self.checked,
            "missing": [asdict(fault) for fault in self.missing],
            "broken": [asdict(fault) for fault in self.broken],
            "unlisted": list(self.unlisted),
            "passed_over": dict(self.passed_over),
            "splits": [asdict(cost) for cost in self.costs],
            "absent_splits": list(self.absent_splits),
            "official": {what: {"here": here, "official": total} for what, (here, total) in self.totals.items()},
        }


def check_data(layout: Benchmark, workers: Workers) -> Check:
    """Searches for every image that the annotations name, and decodes it.

    Args:
        layout: the data set.
        workers: number of processes that decode, where 0 decodes in the calling process; or a cluster.

    Raises:
        InputError: an annotation file is absent or damaged.
    """
    splits = layout.annotated_splits()
    found = _Found(layout, splits)
    broken = image_faults(found.there, workers, "check-data") | found.misnamed
    unusable = found.places.keys() - set(found.there) | broken.keys()
    return Check(
        root=layout.root,
        checked=len(found.places),
        missing=_sorted([*found.missing(), *_not_listed(splits)]),
        broken=_sorted(found.fault(path, reason) for path, reason in broken.items()),
        unlisted=tuple(printable(path.relative_to(layout.root).as_posix()) for path in found.unlisted),
        passed_over=sum((scan.passed for scan in found.scans.values()), Counter()),
        costs=tuple(_cost(split, unusable, broken.keys()) for split in splits),
        absent_splits=layout.absent_splits,
        advice=tuple(_advice(splits, unusable)),
        totals={what: (here, layout.official[what]) for what, here in _totals(splits) if what in layout.official},
    )


def _sorted(faults: Iterable[Fault]) -> tuple[Fault, ...]:
    return tuple(sorted(faults, key=lambda fault: (fault.name, fault.path)))


@dataclass(frozen=True)
class _Found:
    """The images that the splits need, and the image files in the layout's folders."""

    layout: Benchmark
    splits: tuple[AnnotatedSplit, ...]

    @cached_property
    def places(self) -> dict[Path, tuple[str, list[str]]]:
        """The image name of each expected path, and the splits that need the image."""
        places: dict[Path, tuple[str, list[str]]] = {}
        for split in self.splits:
            for name, path in split.images.items():
                places.setdefault(path, (name, []))[1].append(_label(split))
        return places

    @cached_property
    def there(self) -> list[Path]:
        """The expected paths at which an image exists."""
        return [path for path in self.places if is_there(path)]

    @cached_property
    def misnamed(self) -> dict[Path, str]:
        """The fault of each image whose name is not UTF-8."""
        return {path: "has a name that is not UTF-8: rename it" for path in self.there if not is_utf8(str(path))}

    @cached_property
    def unlisted(self) -> list[Path]:
        """Image files that no annotation names."""
        return self._not_named(self.scans)

    def _not_named(self, scans: Mapping[Path, Scan]) -> list[Path]:
        listed = {
            path
            for split in self.splits
            for name, path in split.images.items()
            if split.listed is None or name in split.listed
        }
        files = (folder / name for folder, scan in scans.items() for name in scan.names)
        return [path for path in files if path not in listed]

    @cached_property
    def scans(self) -> dict[Path, Scan]:
        """The contents of the layout's image folders."""
        return _scan(self.layout.image_folders)

    def fault(self, path: Path, reason: str) -> Fault:
        """Returns the fault of an image with this reason."""
        name, splits = self.places[path]
        return Fault(printable(name), printable(path.as_posix()), tuple(splits), reason)

    def missing(self) -> Iterator[Fault]:
        """Yields the absent images; the reason names a file that differs in case, ending or folder, if there is one."""
        absent = self.places.keys() - set(self.there)
        shared = () if self.layout.image_folders else sorted({path.parent for path in absent})
        nearby = self._not_named(_scan(shared)) if shared else self.unlisted
        others = {_loosely(path): path for path in nearby}
        elsewhere = {_loosely(Path(path.name)): path for path in reversed(nearby)}
        for path in absent:
            hint = ""
            if other := others.get(_loosely(path)):
                hint = f", but {self._shown(other)} is: rename it"
            elif other := elsewhere.get(_loosely(Path(path.name))):
                hint = f", but {self._shown(other)} is: move or link it to the folder {self._shown(path.parent)}"
            yield self.fault(path, f"is not there{hint}")

    def _shown(self, path: Path) -> str:
        return printable(Path(os.path.relpath(path, self.layout.root)).as_posix())


def _scan(folders: Iterable[Path]) -> dict[Path, Scan]:
    return {folder: scan_folder(folder) for folder in folders if folder.is_dir()}


def _not_listed(splits: Iterable[AnnotatedSplit]) -> Iterator[Fault]:
    """Yields the images that triplets name and that their split does not list."""
    for split in splits:
        named = (name for triplet in split.triplets for name in (*_names(triplet), *triplet.subset_names))
        for name in dict.fromkeys(named):
            if name not in split.images:
                yield Fault(name, "", (_label(split),), split.absent)


def _loosely(path: Path) -> str:
    """Returns a key that is equal for paths that differ only in case or ending."""
    return path.with_suffix("").as_posix().lower()


def _label(split: AnnotatedSplit) -> str:
    return f"{split.split} {split.category}".strip()


def _names(triplet: Triplet) -> Iterable[str]:
    return (triplet.reference_name, *triplet.target_names)


def _needed(triplet: Triplet, split: AnnotatedSplit) -> Iterable[str]:
    """Returns the names of the images without which a triplet cannot be used."""
    return (*_names(triplet), *triplet.subset_names) if split.whole_subsets else _names(triplet)


def _cost(split: AnnotatedSplit, unusable: Collection[Path], broken: Collection[Path]) -> Cost:
    usable = {name for name, path in split.images.items() if path not in unusable}
    undecodable = sum(path in broken for path in split.images.values())
    return Cost(
        split=split.split,
        category=split.category,
        triplets=len(split.triplets),
        triplets_lost=sum(not usable.issuperset(_needed(triplet, split)) for triplet in split.triplets),
        images=len(split.images),
        missing=len(split.images) - len(usable) - undecodable,
        broken=undecodable,
        empty_texts=sum(triplet.has_empty_text for triplet in split.triplets),
    )


def _advice(splits: Iterable[AnnotatedSplit], unusable: Collection[Path]) -> Iterator[str]:
    """Yields advice to leave out the categories or tasks with mostly unusable images, if others can be used."""
    there: dict[str, dict[str, list[bool]]] = {}
    for split in splits:
        if split.setting:
            part = there.setdefault(split.setting, {}).setdefault(split.category or split.split, [])
            part.extend(path not in unusable for path in split.images.values())
    for setting, parts in there.items():
        usable = [part for part, found in parts.items() if are_enough(found, "error")]
        if usable and (lacking := [part for part in parts if part not in usable]):
            yield f"most images of {', '.join(lacking)} cannot be used: {naming_parts(setting, usable)}"


def _totals(splits: Iterable[AnnotatedSplit]) -> list[tuple[str, int]]:
    """Counts triplets and images of each split and category, under the names of official totals."""
    totals: dict[str, int] = {}
    named: dict[str, set[str]] = {}
    for split in splits:
        for label in dict.fromkeys((split.split, _label(split))):
            totals[f"{label} triplets"] = totals.get(f"{label} triplets", 0) + len(split.triplets)
            totals[f"{label} images"] = totals.get(f"{label} images", 0) + len(split.images)
            named.setdefault(label, set()).update(name for triplet in split.triplets for name in _names(triplet))
    return [*totals.items(), *((f"{label} images in triplets", len(names)) for label, names in named.items())]
