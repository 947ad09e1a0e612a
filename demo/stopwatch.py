"""The running times of stages, from the output of DVC."""

import re
import time

_STARTS = re.compile(r"Running stage '(?:.*:)?([\w@-]+)'")
_ENDS = re.compile(r"(Stage|Updating|To track|Ran experiment)\b")


class Stopwatch:
    """Measures the running time of each stage from the output of DVC.

    Attributes:
        seconds: running times by stage, those of earlier runs included.
    """

    def __init__(self, seconds: dict[str, float]) -> None:
        self.seconds = dict(seconds)
        self._running: tuple[str, float] | None = None

    def follow(self, line: str) -> None:
        """Processes one line of output, and prints it."""
        print(line, flush=True)
        found = _STARTS.match(line)
        if found or _ENDS.match(line):
            self.stop()
        if found:
            self._running = (found.group(1), time.monotonic())

    def stop(self) -> None:
        """Records the end of the running stage, if any."""
        if self._running:
            stage, start = self._running
            self.seconds[stage] = round(time.monotonic() - start, 1)
        self._running = None
