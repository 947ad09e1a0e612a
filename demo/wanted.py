"""Comparison of the small models with the wanted figures. A weaker model is reported and does not stop the demo."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any


def judged(model: str, measured: Mapping[str, Any], wanted: Mapping[str, float]) -> dict[str, Any]:
    """Compares measured figures with the wanted ones, and reports each lower one on stderr.

    Args:
        model: name of the model in the report, such as `captioner`.
        measured: the measurements of the model.
        wanted: the lowest accepted value of some of the figures, by name.

    Returns:
        `measured` with two further keys: `wanted`, and as `below` the names of the figures that are lower than wanted.
    """
    below = [name for name, least in wanted.items() if measured[name] < least]
    content = {**measured, "wanted": dict(wanted), "below": below}
    for shortfall in shortfalls(content):
        print(f"warning: the demo's {model} is weaker than wanted and is used as it is: {shortfall}", file=sys.stderr)
    return content


def shortfalls(content: Mapping[str, Any]) -> list[str]:
    """Returns a phrase for each figure below the wanted one, from the result of `judged`; none for other metrics."""
    phrases = []
    for name in content.get("below", []):
        label = f"{name} ({content['worst']})" if name == "min" and "worst" in content else name
        phrases.append(f"{label} is {content[name]:g}, wanted at least {content['wanted'][name]:g}")
    return phrases
