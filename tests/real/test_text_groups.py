"""The share of real texts that the report's groups of words cover, as docs/scores.md states it."""

import json
import re
from pathlib import Path

import pytest

from spn4cir.report.text_groups import groups_of
from tests.real.folders import REAL, ROOT

FILES = {"FashionIQ": "fashion-iq/captions/cap.*.val.json", "CIRR": "cirr/cirr/captions/cap*.val.json"}


def read_texts(path: Path) -> list[str]:
    rows = json.loads(path.read_text(encoding="utf-8"))
    return [" and ".join(row["captions"]) if "captions" in row else row["caption"] for row in rows]


@pytest.mark.parametrize("name", FILES)
def test_the_groups_cover_the_share_of_texts_that_the_page_states(name: str) -> None:
    texts = [text for path in sorted(REAL.glob(FILES[name])) for text in read_texts(path)]
    share = 100 * sum(bool(groups_of(text)) for text in texts) / len(texts)
    page = (ROOT / "docs" / "scores.md").read_text(encoding="utf-8")
    stated = re.search(rf"([\d.]+) % of {name}'s ([\d,]+)", page)
    assert stated is not None
    assert stated.groups() == (f"{share:.1f}", f"{len(texts):,}")
