"""GeneCIS: four tasks, each query with a small gallery of its own; it has no training split.

Source: https://github.com/facebookresearch/genecis.
"""

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import mean
from typing import Any, ClassVar

from spn4cir.datasets.json_records import read_records
from spn4cir.datasets.parts import are_enough, choose_parts, naming_parts, require_images
from spn4cir.datasets.protocol import AnnotatedSplit, EvaluationProtocol, Scores
from spn4cir.datasets.records import (
    Missing,
    field,
    fill_template,
    findable,
    integer_field,
    list_field,
    present_gallery,
    text_field,
)
from spn4cir.errors import InputError
from spn4cir.images.crops import Crop, split_view
from spn4cir.images.reading import is_there
from spn4cir.types import EvaluationSplit, Triplet

# True if a task's images are crops of Visual Genome images; False if they are whole images of COCO's val2017.
TASKS = {"focus_attribute": True, "change_attribute": True, "focus_object": False, "change_object": False}
_KS = (1, 2, 3)
# Share by which the authors' evaluation enlarges the boxes.
_GROW = 0.7
# An upper bound of an image's side in pixels; it also excludes numbers that are not finite.
_FAR = 1_000_000
# Ids have at most eight digits; file names of the object tasks have twelve.
_NUMBER = re.compile(r"[0-9]{1,12}")
# Visual Genome is published in two folders; the authors use one with all images.
_GENOME = ("VG_100K_all", "VG_100K", "VG_100K_2")


@dataclass(frozen=True)
class GeneCis:
    """Adapter of a GeneCIS folder.

    In the object tasks an image's name is its COCO id, in the attribute tasks its Visual Genome id and box.

    Attributes:
        root: the folder of the data set.
        missing: whether a query with an absent image, distractors included, is an error or is left out.
        query_text: the text of a query, with the field `{condition}`.
        tasks: the tasks to score.
    """

    root: Path
    missing: Missing
    query_text: str = "{condition}"
    tasks: tuple[str, ...] = tuple(TASKS)
    published: ClassVar[str] = "genecis"
    absent_splits: ClassVar[tuple[str, ...]] = ()
    official: ClassVar[Mapping[str, int]] = {
        "focus_object triplets": 1_960,
        "focus_object images": 2_198,
        "change_object triplets": 1_960,
        "change_object images": 2_739,
    }

    @property
    def protocol(self) -> EvaluationProtocol:
        """Recalls within each query's own gallery."""
        return EvaluationProtocol(
            gallery="each query's own: its target and its distractors",
            captions=self.query_text,
            subset_ks=_KS,
            parts={} if self._is_whole else {"tasks": self._tasks},
        )

    @property
    def _is_whole(self) -> bool:
        """Whether all four tasks are scored."""
        return self._tasks == tuple(TASKS)

    @cached_property
    def _tasks(self) -> tuple[str, ...]:
        return choose_parts(self.tasks, tuple(TASKS), "tasks", self.root)

    @staticmethod
    def find_parts(root: Path) -> dict[str, tuple[str, ...]]:
        """Returns the setting `tasks` for a folder that contains the queries of only some tasks, else empty."""
        found = _tasks_in(root)
        return {} if found in ((), tuple(TASKS)) else {"tasks": found}

    def _read(self, task: str) -> tuple[tuple[Triplet, ...], dict[str, Path]]:
        """Reads the queries of a task, and the path of each image that they name."""
        path, places, triplets = _annotations(self.root, task), dict[str, Path](), []
        there = _tasks_in(self.root)
        if there and task not in there:
            raise InputError(f"{path}: no such file; {naming_parts('tasks', there)}")
        for position, record in enumerate(read_records(path)):

            def name(image: Any, position: int = position) -> str:
                found, place = self._image(image, TASKS[task], path, position)
                places[found] = place
                return found

            reference, target = (name(field(record, role, dict, path, position)) for role in ("reference", "target"))
            gallery = list_field(record, "gallery", dict, path, position)
            if not gallery:
                raise InputError(f"{path}: triplet {position} has an empty gallery; add its distractors")
            text = fill_template(self.query_text, {"condition": text_field(record, "condition", path, position)})
            members = tuple(dict.fromkeys((target, *map(name, gallery))))
            triplets.append(Triplet(reference, (text,), target, query_id=position, subset_names=members))
        return tuple(triplets), places

    def _image(self, image: dict[str, Any], cropped: bool, path: Path, position: int) -> tuple[str, Path]:
        if not cropped:
            number = _image_id(image, "val_image_id", path, position)
            return str(number), self.root / "val2017" / f"{number:012d}.jpg"
        number = _image_id(image, "image_id", path, position)
        box = field(image, "instance_bbox", list, path, position)
        numbers = len(box) == 4 and all(type(side) in (int, float) and abs(side) < _FAR for side in box)
        if not numbers or min(box[2:]) <= 0:
            raise InputError(
                f"{path}: triplet {position}: instance_bbox is {box}, expected left, top, width, height in pixels, "
                "the last two above 0; correct it or remove the triplet"
            )
        left, top, width, height = box
        part = Crop(left, top, width, height, grow=_GROW)
        return f"{number}@{','.join(map(str, box))}", part.of(self._genome(f"{number}.jpg"))

    def _genome(self, name: str) -> Path:
        places = [self.root / folder / name for folder in _GENOME]
        return next((place for place in places if is_there(place)), places[0])

    def evaluation_splits(self) -> tuple[EvaluationSplit, ...]:
        """Returns one split per task; its gallery is all images of the task, from which each query has its own."""
        return tuple(self._evaluation_split(task) for task in self._tasks)

    def _evaluation_split(self, task: str) -> EvaluationSplit:
        path = _annotations(self.root, task)
        annotated, places = self._read(task)
        require_images(task, self._tasks, self._has_images, "tasks", path)
        gallery, absent = present_gallery(list(places), list(places.values()), self.missing, path)
        triplets = tuple(
            triplet
            for triplet in findable(annotated, self.missing, path)
            if gallery.index.keys() >= {triplet.reference_name, *triplet.subset_names}
        )
        if left_out := len(annotated) - len(triplets):
            print(f"{path}: left out {left_out} of {len(annotated)} queries", file=sys.stderr)
        return EvaluationSplit(task, triplets, gallery, {}, left_out, absent, own_galleries=True)

    def _has_images(self, task: str) -> bool:
        """Whether enough images of a task are on disk (`are_enough`)."""
        return are_enough([is_there(place) for place in self._read(task)[1].values()], self.missing)

    def summarise(self, scores: Mapping[str, Scores]) -> Scores:
        """Returns R@k of each task within the queries' own galleries, and their averages."""
        flat = {f"{task}_{key}": value for task, values in scores.items() for key, value in values.items()}
        keys = [f"recall_subset_at{k}" for k in _KS]
        return flat | {f"average_{key}": mean(values[key] for values in scores.values()) for key in keys}

    def annotated_splits(self) -> tuple[AnnotatedSplit, ...]:
        """Returns one split per task; a crop is checked as the whole image that it is cut from."""
        splits = []
        for task in self._tasks:
            triplets, places = self._read(task)
            files = {name: split_view(path)[0] for name, path in places.items()}
            splits.append(AnnotatedSplit(task, triplets, files, setting="tasks", whole_subsets=True))
        return tuple(splits)

    @property
    def image_folders(self) -> tuple[Path, ...]:
        """Empty: the folders of Visual Genome and COCO contain many images that no query names."""
        return ()


def _annotations(root: Path, task: str) -> Path:
    return root / "genecis" / f"{task}.json"


def _tasks_in(root: Path) -> tuple[str, ...]:
    """Returns the tasks with a file of queries in the folder."""
    return tuple(task for task in TASKS if _annotations(root, task).is_file())


def _image_id(image: dict[str, Any], name: str, path: Path, position: int) -> int:
    """Reads the id of an image, which Visual Genome's files write as a number or as text.

    Raises InputError for an absent id and for one that is not a number.
    """
    value = image.get(name)
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        return int(value)
    return integer_field(image, name, path, position)
