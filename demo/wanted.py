"""What the small models ought to reach. A weaker one is reported and never stops the demo."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any


def judged(model: str, measured: Mapping[str, Any], wanted: Mapping[str, float]) -> dict[str, Any]:
    """The measured figures with `wanted` and `below`; each figure below what is wanted is also reported on stderr.

    Args:
        model: its name in the report, as `captioner`.
        measured: what its metrics file holds.
        wanted: the least wanted value of some of the figures, by the figure's name.

    Returns:
        `measured`, `wanted`, and as `below` the names of the figures that are lower than wanted.
    """
    below = [name for name, least in wanted.items() if measured[name] < least]
    content = {**measured, "wanted": dict(wanted), "below": below}
    for shortfall in shortfalls(content):
        print(f"warning: the demo's {model} is weaker than wanted and is used as it is: {shortfall}", file=sys.stderr)
    return content


def shortfalls(content: Mapping[str, Any]) -> list[str]:
    """A phrase for each figure below what is wanted, from what `judged` returned; none for other metrics files."""
    phrases = []
    for name in content.get("below", []):
        label = f"{name} ({content['worst']})" if name == "min" and "worst" in content else name
        phrases.append(f"{label} is {content[name]:g}, wanted at least {content['wanted'][name]:g}")
    return phrases
