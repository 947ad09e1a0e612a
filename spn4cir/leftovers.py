"""Work that former settings left behind."""

from pathlib import Path

from spn4cir.work import clear_work


def clear_others(work: Path) -> None:
    """Removes a stage's work of other keys; called at its start.

    Its own work is kept even when the stage is done, until it runs with another key: killed after its last line but
    before DVC has stored its outs, which takes minutes for a large bank, it then has nothing to do again.

    Args:
        work: what `work_folder` returned.
    """
    for other in work.parent.iterdir():
        if other != work:
            clear_work(other)
