"""The head of a report: what was trained, on what, how, and when it was scored."""

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from spn4cir.report.run import RunResults

# Settings of a training that the head shows, with their labels.
_TRAINING = {
    "epochs": "Epochs",
    "batch_size": "Batch size",
    "lr": "Learning rate",
    "tau": "Temperature",
    "precision": "Precision",
    "positives": "Triplets",
    "negatives": "Negatives",
}


def facts(run: RunResults) -> dict[str, str]:
    """Returns the facts on a run, by label."""
    queries = len(run.queries)
    return {
        "Model family": run.family,
        "Base network": base_network(run.settings["models"]["stage1"], run.dataset, run.family),
        "Data set": f"{run.dataset} (layout {run.settings['datasets']['layout']}), {queries:,} validation queries",
        "Scored on": run.date,
        "Seed": str(run.settings["seed"]),
    }


def base_network(source: Mapping[str, Any], dataset: str, family: str) -> str:
    """Returns the name of a network: that of open_clip or the hub, or the path of a local file or folder."""
    if "open_clip" in source:
        return f"open_clip:{source['open_clip']}/{source['tag']}"
    if "hub" in source:
        return str(source["hub"])
    return PurePosixPath("data/models", dataset, "stage1", family, str(source["local"])).as_posix()


def training_rows(settings: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Returns rows of a label and the values of stage 1 and stage 2; none of stage 1 if its weights were published."""
    checkpoint = settings["checkpoint"]
    own = checkpoint["source"] == "train"
    first = {"positives": checkpoint["positives"]} | checkpoint["train"] if own else {}
    second = settings["train"]
    return [(label, _value(first, key), _value(second, key)) for key, label in _TRAINING.items()]


def _value(settings: Mapping[str, Any], key: str) -> str:
    if key not in settings:
        return ""
    learned = ", learned" if key == "tau" and settings["learn_tau"] else ""
    return f"{settings[key]}{learned}"
