"""Abuse of `spn4cir serve`: `python -m tests.faults.server` counts what a real server survives.

Clients send faults and honest requests at once, first few clients and then many, again and again. No answer may have
a status 5xx but a 503 that says why, or contain what is outside of the gallery; honest answers must be those of a quiet
server; the process opens no file outside of the gallery; its memory stays; it ends within 5 seconds of a SIGTERM.
"""

import argparse
import asyncio
import re
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Sequence
from pathlib import Path
from random import Random
from typing import NamedTuple
from urllib.parse import urlsplit

import psutil

from tests.faults.report import Row, store
from tests.faults.server_abuses import ABUSES, Abuse
from tests.faults.server_payloads import large_image
from tests.faults.server_visitors import IMAGES, TURNED, Session, body, patient, questions
from tests.faults.server_wire import Place, ask, complaint, head, multipart, post, statuses
from tests.helpers.checkpoints import write_checkpoint
from tests.helpers.layouts import draw
from tests.helpers.memory import resident
from tests.helpers.server import serve

PLANTED = b"planted-7c1f outside of the gallery"
SECONDS_TO_END = 5.0
# How often a round has each number of clients, and the seconds of rest after it: until all pages are closed, those that
# no browser connected to after a minute, and freed memory is returned to the system.
_TIMES, _REST = 3, 85.0
_STEP = 8.0
_GROWTH = 1.10
_SESSIONS = "sessions of the page, each with an image of its own"


class Campaign:
    """Clients of one server, and what they count."""

    def __init__(self, place: Place, seed: int, seconds_to_end: float = SECONDS_TO_END) -> None:
        self._place = place
        self._seconds_to_end = seconds_to_end
        self._random = Random(seed)
        self._questions = questions(place)
        self._expected: dict[str, object] = {}
        self._sessions = 0
        self.tried: Counter[str] = Counter()
        self.survived: Counter[str] = Counter()
        self.complaints: Counter[str] = Counter()
        self.seconds_to_end = 0.0
        self.loaded_again = 0

    async def learn(self) -> None:
        """Asks each question while the server is quiet."""
        for question in self._questions:
            answer = await ask(self._place, question.request)
            assert statuses(answer) == [200], (question.name, answer[:500])
            self._expected[question.name] = body(answer)

    async def step(self, clients: int, seconds: float) -> None:
        """Lets clients act for some seconds, then waits until all are done."""
        ends = time.monotonic() + seconds
        async with asyncio.TaskGroup() as group:
            for _ in range(clients):
                group.create_task(self._client(Random(self._random.random()), ends))

    async def _client(self, random: Random, ends: float) -> None:
        while time.monotonic() < ends:
            kind = random.random()
            if kind < 0.25:
                await self.count("honest requests", self._ask_honestly(random))
            elif kind < 0.28:
                self._sessions += 1
                session = Session(self._place, self._sessions)
                await self.count(_SESSIONS, session.run())
                self.loaded_again += session.loaded_again
            else:
                abuse = random.choice(ABUSES)
                await self.count(abuse.name, self._abuse(abuse, random))

    async def count(self, name: str, work: Awaitable[str | None]) -> None:
        try:
            async with asyncio.timeout(240):
                wrong = await work
        except Exception as error:
            wrong = f"{type(error).__name__}: {error}"
        self.tried[name] += 1
        self.survived[name] += wrong is None
        if wrong is not None:
            self.complaints[f"{name}: {wrong}"] += 1

    async def _ask_honestly(self, random: Random) -> str | None:
        question = random.choice(self._questions)
        answer = await patient(self._place, question.request)
        if statuses(answer) != [200]:
            return f"{question.name}: answered with {statuses(answer)}"
        return None if body(answer) == self._expected[question.name] else f"{question.name}: another answer than before"

    async def _abuse(self, abuse: Abuse, random: Random) -> str | None:
        answer = await abuse.run(self._place, random)
        wrong = complaint(self._place, answer, abuse.allowed)
        return None if wrong is None else f"{wrong}: {answer[:150]!r}"

    async def stop(self, process: psutil.Process) -> str | None:
        """Sends SIGTERM while large uploads are decoded, and halves of requests are open."""
        kind, form = multipart(("text", None, b"is red"), ("image", "a.png", large_image()))
        pending = [
            asyncio.create_task(ask(self._place, post(self._place, "/api/search", kind, form))) for _ in range(8)
        ]
        halves = [asyncio.create_task(each.run(self._place, Random(seed))) for seed in range(8) for each in ABUSES[:2]]
        await asyncio.sleep(0.5)
        await patient(self._place, head(self._place, "/api/health"))  # so that the server has read what was sent
        process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        while process.is_running() and process.status() != psutil.STATUS_ZOMBIE and time.monotonic() - began < 60:
            await asyncio.sleep(0.02)
        took = time.monotonic() - began
        answers = await asyncio.gather(*pending, return_exceptions=True)
        await asyncio.gather(*halves, return_exceptions=True)
        for answer in answers:
            if isinstance(answer, BaseException) or not statuses(answer):
                return f"a request in flight has no answer: {answer!r}"
            if wrong := complaint(self._place, answer, frozenset({200})):
                return f"a request in flight: {wrong}"
        self.seconds_to_end = took
        return None if took < self._seconds_to_end else f"ended after {took:.1f} seconds"


class Found(NamedTuple):
    """What a campaign found.

    Attributes:
        rows: the counts.
        complaints: what was wrong, with how often.
    """

    rows: list[Row]
    complaints: Counter[str]


def run(
    folder: Path,
    clients: Sequence[int],
    seconds: float,
    step: float,
    seed: int = 0,
    patience: float = 14,
    seconds_to_end: float = SECONDS_TO_END,
    rest: float = 4,
) -> Found:
    """Abuses a server of its own.

    Args:
        folder: an empty folder.
        clients: the numbers of clients of the steps of a round.
        seconds: rounds begin until then; those of the first third of the time warm up.
        step: the seconds in which the clients of a step begin something.
        seed: chooses the faults.
        patience: the most seconds that a slow client takes for one request.
        seconds_to_end: the most seconds from SIGTERM to the end of the server.
        rest: seconds without a client, after which the memory is measured.
    """
    log = folder / "opened.txt"
    gallery = prepare(folder)
    code = Path(__file__).parents[2] / "spn4cir"
    given = [*map(str, (log, gallery, folder / "queries", code))]
    watch = f"from pathlib import Path; from tests.faults.server_watch import watch\nwatch(*map(Path, {given}))\n"
    with (
        (folder / "server.err").open("wb") as errors,
        serve(folder, "--annotate", "queries/new.csv", before=watch, stderr=errors) as server,
    ):
        opened = log.stat().st_size
        (gallery / TURNED).unlink()
        (gallery / TURNED).symlink_to(folder / "secret.png")
        parts = urlsplit(server.address)
        assert parts.hostname is not None
        assert parts.port is not None
        campaign = Campaign(Place(parts.hostname, parts.port, folder, PLANTED, patience), seed, seconds_to_end)
        process = psutil.Process(server.process.pid)
        memory = asyncio.run(_rounds(campaign, process, clients, seconds, step, rest))
        server.process.wait(60)
    outside = sorted(set(log.read_bytes()[opened:].decode().splitlines()))
    return _found(campaign, memory, outside, (folder / "server.err").read_text(errors="replace"))


def prepare(folder: Path) -> Path:
    """Draws a gallery, and files that no client may see beside it. Returns the gallery."""
    for number in range(IMAGES):
        draw(folder / "gallery" / f"{number:02}.png", number, (200, 300))
    draw(folder / "gallery" / TURNED, IMAGES)
    draw(folder / "secret.png", IMAGES + 1)
    (folder / "secret.txt").write_bytes(PLANTED)
    (folder / "queries").mkdir()
    write_checkpoint(folder / "best.pt", stage=2)
    return folder / "gallery"


async def _rounds(
    campaign: Campaign, process: psutil.Process, clients: Sequence[int], seconds: float, step: float, rest: float
) -> list[tuple[float, float]]:
    """Returns the share of the time and the resident memory in MB, at rest after each round."""
    memory = []
    await campaign.learn()
    began = time.monotonic()
    while not memory or time.monotonic() - began < seconds:
        for count in clients:
            await campaign.step(count, step)
        await asyncio.sleep(rest)
        memory.append(((time.monotonic() - began) / seconds, resident(process)))
    await campaign.count("SIGTERM with requests in flight", campaign.stop(process))
    return memory


def _found(campaign: Campaign, memory: list[tuple[float, float]], outside: list[str], errors: str) -> Found:
    warm = [size for share, size in memory if share < 1 / 3] or [memory[0][1]]
    later = [size for _, size in memory[len(warm) :]]
    tracebacks = Counter(_traceback_ends(errors))
    notes = {
        "SIGTERM with requests in flight": f"ended after {campaign.seconds_to_end:.1f} seconds",
        _SESSIONS: f"pages loaded again after the server closed their socket: {campaign.loaded_again}",
    }
    rows = [Row(name, tried, campaign.survived[name], notes.get(name, "")) for name, tried in campaign.tried.items()]
    rows += [
        Row(
            "memory at rest after each round, at most 10 % more than after the rounds that warm up",
            len(later),
            sum(size <= max(warm) * _GROWTH for size in later),
            f"{max(warm):,.0f} MB, then at most {max(later, default=max(warm)):,.0f} MB",
        ),
        Row("files outside of the gallery", 1, int(not outside), "opened: " + (", ".join(outside[:5]) or "none")),
        Row("tracebacks of the server", 1, int(not tracebacks), f"{tracebacks.total()}"),
    ]
    return Found(rows, campaign.complaints + Counter({f"opens {path}": 1 for path in outside}) + tracebacks)


def _traceback_ends(errors: str) -> list[str]:
    """The innermost frame and the error of each traceback."""
    found = []
    for text in errors.split("Traceback (most recent call last):\n")[1:]:
        frames, error = re.match(r"((?:[ |+].*\n)*)(.*)", text).groups()  # type: ignore[union-attr]
        *_, frame = ["", *re.findall(r"File .*", frames)]
        found.append(f"traceback: {frame}: {error}")
    return found


def main() -> None:
    """Runs the campaign, stores its counts, and fails if a fault was not survived."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.server", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--clients", default="16..300", help="the fewest and the most clients at once")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    fewest, most = map(int, arguments.clients.split(".."))
    clients = [round(fewest * (most / fewest) ** (step / 3)) for step in range(4)] * _TIMES
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        found = run(Path(folder), clients, arguments.minutes * 60, _STEP, arguments.seed, rest=_REST)
    command = f"python -m tests.faults.server --minutes {arguments.minutes:g} --clients {arguments.clients}"
    print(store("server", command, time.monotonic() - began, found.rows))
    for complaint_, times in found.complaints.most_common():
        print(f"{times} times: {complaint_}", file=sys.stderr)
    if any(row.survived < row.tried for row in found.rows):
        sys.exit(1)


if __name__ == "__main__":
    main()
