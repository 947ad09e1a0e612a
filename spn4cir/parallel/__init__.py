"""One training in several processes: their group, what they exchange, and starting them."""

from spn4cir.parallel.group import ALONE, Group

__all__ = ["ALONE", "Group"]
