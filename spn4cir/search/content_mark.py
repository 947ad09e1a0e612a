"""What a store of targets contained at some time, by which later changes are counted."""

from typing import NamedTuple, Self

from spn4cir.search.stored_targets import StoredTargets


class ContentMark(NamedTuple):
    """The content of a store at some time.

    An image that is added later has an id of `next_id` or above, so that the ids alone show what changed since.

    Attributes:
        images: number of images.
        next_id: the id after those of all images.
    """

    images: int
    next_id: int

    @classmethod
    def of(cls, stored: StoredTargets) -> Self:
        """The content as it is now."""
        return cls(len(stored), stored.next_id)

    def removed(self, stored: StoredTargets) -> int:
        """The number of these images that the store no longer contains."""
        return max(0, self.images - len(stored) + stored.count_from(self.next_id))

    def changed(self, stored: StoredTargets, share: float) -> bool:
        """Whether more images than this share of these were added or removed since; both in turn counts as none."""
        return stored.count_from(self.next_id) + self.removed(stored) > share * self.images
