"""Checking a data set's images: what its annotations name and is missing or broken, and what that costs the score.

Every image is decoded to its last pixel: a header may be whole where the rest was cut off.
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
from spn4cir.types import Triplet


@dataclass(frozen=True)
class Fault:
    """An image that the annotations name and that cannot be used.

    Attributes:
        name: as the annotations name it.
        path: expected path; empty where no split file names one.
        splits: whose annotations name it, as in `val dress`.
        reason: what is wrong with it.
    """

    name: str
    path: str
    splits: tuple[str, ...]
    reason: str


@dataclass(frozen=True)
class Cost:
    """What a split loses.

    Attributes:
        split: `train`, `val`, ...
        category: FashionIQ's; empty elsewhere.
        triplets: as annotated: queries but for `train`.
        triplets_lost: those of them that name an image which cannot be used.
        images: that the split needs: the gallery but for `train`.
        missing: those of them that are not there.
        broken: those of them that cannot be decoded.
        empty_texts: triplets of which a text holds no word; they are used as they are.
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
    """What a check found.

    Attributes:
        root: the folder.
        checked: how many images were looked for.
        missing: images that are not there, by name.
        broken: images that cannot be decoded, by name.
        unlisted: image files that no annotation names, as paths from the root.
        passed_over: how many files in the folders of images are no images, by ending (`spn4cir.images.endings`).
        costs: what each split loses.
        absent_splits: published splits without annotation files, which are not checked.
        advice: settings that leave out categories or tasks without images.
        totals: what was found of the layout's official totals, and these: for comparison alone.
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
        """Whether all that the annotations need is there and can be decoded."""
        return not self.missing and not self.broken

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; nothing is cut."""
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


def check_data(layout: Benchmark, workers: int) -> Check:
    """Looks for every image that the annotations name, and decodes it.

    Args:
        layout: the data set.
        workers: processes that decode; 0 decodes in this one.

    Raises:
        InputError: an annotation file is absent or damaged.
    """
    splits = layout.annotated_splits()
    found = _Found(layout, splits)
    broken = image_faults(found.there, workers, "check-data")
    unusable = found.places.keys() - set(found.there) | broken.keys()
    return Check(
        root=layout.root,
        checked=len(found.places),
        missing=_sorted([*found.missing(), *_not_listed(splits)]),
        broken=_sorted(found.fault(path, reason) for path, reason in broken.items()),
        unlisted=tuple(path.relative_to(layout.root).as_posix() for path in found.unlisted),
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
        """The name of each expected path, and the splits that need its image."""
        places: dict[Path, tuple[str, list[str]]] = {}
        for split in self.splits:
            for name, path in split.images.items():
                places.setdefault(path, (name, []))[1].append(_label(split))
        return places

    @cached_property
    def there(self) -> list[Path]:
        """The paths of `places` that have an image."""
        return [path for path in self.places if is_there(path)]

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
        """What the layout's folders hold."""
        return _scan(self.layout.image_folders)

    def fault(self, path: Path, reason: str) -> Fault:
        """The fault of an image."""
        name, splits = self.places[path]
        return Fault(name, path.as_posix(), tuple(splits), reason)

    def missing(self) -> Iterator[Fault]:
        """The images that are not there, with the file of another case, ending or folder where there is one."""
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
        return Path(os.path.relpath(path, self.layout.root)).as_posix()


def _scan(folders: Iterable[Path]) -> dict[Path, Scan]:
    return {folder: scan_folder(folder) for folder in folders if folder.is_dir()}


def _not_listed(splits: Iterable[AnnotatedSplit]) -> Iterator[Fault]:
    """Images that triplets name and their split does not have."""
    for split in splits:
        named = (name for triplet in split.triplets for name in (*_names(triplet), *triplet.subset_names))
        for name in dict.fromkeys(named):
            if name not in split.images:
                yield Fault(name, "", (_label(split),), split.absent)


def _loosely(path: Path) -> str:
    """A key that paths share which differ in case or ending only."""
    return path.with_suffix("").as_posix().lower()


def _label(split: AnnotatedSplit) -> str:
    return f"{split.split} {split.category}".strip()


def _names(triplet: Triplet) -> Iterable[str]:
    return (triplet.reference_name, *triplet.target_names)


def _needed(triplet: Triplet, split: AnnotatedSplit) -> Iterable[str]:
    """The images without which a triplet is of no use."""
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
    """The setting that leaves out the categories or tasks of which most images cannot be used, where others can."""
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
    """What official totals may count: of each split and of each category."""
    totals: dict[str, int] = {}
    named: dict[str, set[str]] = {}
    for split in splits:
        for label in dict.fromkeys((split.split, _label(split))):
            totals[f"{label} triplets"] = totals.get(f"{label} triplets", 0) + len(split.triplets)
            totals[f"{label} images"] = totals.get(f"{label} images", 0) + len(split.images)
            named.setdefault(label, set()).update(name for triplet in split.triplets for name in _names(triplet))
    return [*totals.items(), *((f"{label} images in triplets", len(names)) for label, names in named.items())]
