"""Second scores of candidates by a served model, for the stage `validate`."""

from collections.abc import Sequence

from torch import Tensor

from spn4cir.config.adjustments import RerankByModel
from spn4cir.evaluation.evaluate import RankedSplit
from spn4cir.evaluation.rerank_served import ServedScores
from spn4cir.positives.finished_work import append_finished, read_finished
from spn4cir.served.client import open_model
from stages.common import Job


class ServedReranker:
    """Scores candidates; answers are kept in `data/work/validate/<dataset>-<family>/rerank.jsonl`.

    Each answer is stored when it arrives, so that a resumed run asks only for what is not stored.

    Args:
        job: data set and family.
        by: the served model.

    Raises:
        InputError: the settings have no such endpoint.
    """

    def __init__(self, job: Job, by: RerankByModel) -> None:
        key = f"adjust.{job.dataset}.{job.family}.rerank.by.served"
        store = job.work("validate") / "rerank.jsonl"
        known = {each["question"]: each["yes"] for each in read_finished(store, ("question", "yes"))}

        def keep(question: str, probability: float) -> None:
            append_finished(store, [{"question": question, "yes": probability}])

        self._scores = ServedScores(open_model(job.params.machine, by.served, by.model, key), by, known, keep)

    def __call__(self, splits: Sequence[RankedSplit], columns: Sequence[Tensor]) -> Sequence[Tensor]:
        """Returns the scores of the candidates of each split; see `ServedScores.score`."""
        return self._scores.score(splits, columns)
