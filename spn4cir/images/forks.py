"""Memory of processes that are forked."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def objects_shared() -> Iterator[None]:
    """Keeps the garbage collector from the objects that exist now, in this process and in those that the block forks.

    The collector writes into every object that it looks at, so that each process would copy the pages of all of them.
    """
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
