"""Lines of progress: counts, throughput and remaining time."""

from itertools import count

import pytest

from spn4cir import progress as module


def test_lines_have_the_throughput_of_this_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Items of an earlier run count as done and not for the throughput."""
    clock = count(100.0, 6.0)
    monkeypatch.setattr(module.time, "monotonic", lambda: next(clock))
    assert list(module.progress("abc", 7, "caption", "images", done=4)) == list("abc")
    assert capsys.readouterr().err.splitlines() == [
        "caption: 6/7 images, 0.2 a second, 6 s left",
        "caption: 7/7 images, done in 24.0 s, 0.1 a second",
    ]
