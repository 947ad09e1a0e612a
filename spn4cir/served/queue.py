"""The order in which items are begun, some of them again."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Generic, TypeVar

Item = TypeVar("Item")

# An item whose own request has no answer is begun this many times.
ROUNDS = 3


@dataclass(slots=True)
class QueuedItem(Generic[Item]):
    """An item of a queue.

    Attributes:
        position: its position among all.
        item: the item.
        failures: how often it was put off, and its request may have been the cause.
    """

    position: int
    item: Item
    failures: int = 0

    @property
    def is_last(self) -> bool:
        """Whether it is begun for the last time if its request is the cause again."""
        return self.failures >= ROUNDS - 1


class ItemQueue(Generic[Item]):
    """Items in their order; those that are put off are begun again when all others are finished, round by round.

    Args:
        items: the items, which are taken one by one.
    """

    def __init__(self, items: Iterable[Item]) -> None:
        self._next: Iterator[QueuedItem[Item]] = (QueuedItem(*each) for each in enumerate(items))
        self._put_off: list[QueuedItem[Item]] = []

    def take(self, count: int, is_idle: bool) -> list[QueuedItem[Item]]:
        """Returns the next items.

        Args:
            count: the largest number of items.
            is_idle: whether no item is in work, so that those that were put off can be begun.
        """
        taken = list(islice(self._next, count))
        if not taken and is_idle:
            self._next, self._put_off = iter(self._put_off), []
            taken = list(islice(self._next, count))
        return taken

    def put_off(self, item: QueuedItem[Item], by_request: bool) -> None:
        """Takes an item back, and counts whether its request may be the cause."""
        item.failures += by_request
        self._put_off.append(item)
