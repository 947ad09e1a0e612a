"""Readers that fail in known ways, to test the fuzzer."""

import os
import signal
import time
from functools import partial

from spn4cir.errors import InputError
from tests.faults.readers import Reader, Target


def _has_fault(content: bytes) -> None:
    if b"9" in content:
        raise KeyError("x")
    if content != b"1":
        raise InputError("not 1")


def _dies(number: signal.Signals, content: bytes) -> None:
    if content != b"1":
        os.kill(os.getpid(), number)


def _exhausts(_: bytes) -> None:
    bytearray(8 << 30)


def _waits(content: bytes) -> None:
    while content != b"1":
        time.sleep(0.01)


def _waits_without_signals(content: bytes) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
    _waits(content)


def _toy(name: str, read: Reader) -> Target:
    return Target(name, lambda _: [b"1"], lambda _: read)


TARGETS = (
    _toy("has a fault", _has_fault),
    _toy("crashes", partial(_dies, signal.SIGSEGV)),
    _toy("is killed", partial(_dies, signal.SIGKILL)),
    _toy("exhausts the memory", _exhausts),
    _toy("waits", _waits),
    _toy("waits without signals", _waits_without_signals),
    Target("does not open", lambda _: [b"1"], lambda _: 1 / 0),  # type: ignore[arg-type, return-value]
)
