"""The files of the measured costs, in `metrics/scale`."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from spn4cir.json_files import read_json, write_json
from tests.scale.growth import StepCost


@dataclass
class Costs:
    """The costs by size, with the machine that each size was measured on.

    Attributes:
        path: the file, which is written after each change.
        sizes: the costs by number of images.
        machines: the machine by number of images.
        again: the machine of the steps that were measured again, by number of images and step.
    """

    path: Path
    sizes: dict[int, list[StepCost]] = field(default_factory=dict)
    machines: dict[int, str] = field(default_factory=dict)
    again: dict[int, dict[str, str]] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> "Costs":
        """Reads the file; no costs if it is absent."""
        stored = read_json(path) if path.is_file() else {}
        sizes = {int(size): [StepCost(**cost) for cost in each["costs"]] for size, each in stored.items()}
        machines = {int(size): each["machine"] for size, each in stored.items()}
        again = {int(size): each["again"] for size, each in stored.items() if "again" in each}
        return cls(path, sizes, machines, again)

    def steps(self, images: int) -> set[str]:
        """The steps that are measured at a size."""
        return {cost.step for cost in self.sizes.get(images, ())}

    def add(self, images: int, costs: Sequence[StepCost], machine: str) -> None:
        """Adds costs and writes the file."""
        self.sizes.setdefault(images, []).extend(costs)
        self.machines[images] = machine
        self._write()

    def replace(self, images: int, costs: Sequence[StepCost], machine: str) -> None:
        """Replaces costs of steps that were measured again, and writes the file."""
        known = {cost.step: cost for cost in costs}
        self.sizes[images] = [known.get(cost.step, cost) for cost in self.sizes[images]]
        self.again.setdefault(images, {}).update(dict.fromkeys(known, machine))
        self._write()

    def drop(self, images: int) -> None:
        """Removes a size."""
        self.again.pop(images, None)
        if self.sizes.pop(images, None) is not None:
            self._write()

    def of(self, step: str) -> list[StepCost]:
        """The costs of a step, by size."""
        return [cost for images in sorted(self.sizes) for cost in self.sizes[images] if cost.step == step]

    def by_step(self) -> dict[str, list[StepCost]]:
        """The costs of each step, in the order in which the steps were measured first."""
        steps = dict.fromkeys(cost.step for each in self.sizes.values() for cost in each)
        return {step: self.of(step) for step in steps}

    def _write(self) -> None:
        content = {
            str(images): {
                "machine": self.machines[images],
                "costs": [asdict(cost) for cost in self.sizes[images]],
                **({"again": self.again[images]} if images in self.again else {}),
            }
            for images in sorted(self.sizes)
        }
        write_json(self.path, content, indent=2)
