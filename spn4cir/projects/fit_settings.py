"""Finds copied settings that are too large for a small data set, and values that fit it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from spn4cir.config.params import Params, of_dataset
from spn4cir.projects.inspect_folder import Contents, generated_families
from spn4cir.projects.set_values import KeyPath

# The published windows of FashionIQ and CIRR begin and end at about these shares of their unique images.
_WINDOW_SHARE = (0.4, 0.8)


@dataclass(frozen=True)
class Misfit:
    """A setting that is too large for the data set.

    Attributes:
        path: its key path.
        value: its value.
        fitting: a value that fits.
        reason: what the value does not fit, as in `exceeds the 18 annotated training triplets`.
    """

    path: KeyPath
    value: Any
    fitting: Any
    reason: str

    @property
    def family(self) -> str:
        """The family whose setting it is."""
        return self.path[self.place]

    @property
    def place(self) -> int:
        """The position of the family in the key path: after `window`, or after the data set."""
        return self.path.index("window") + 1 if "window" in self.path else 2


def misfits(params: Params, name: str, contents: Contents, trained: str | None = None) -> list[Misfit]:
    """Returns the settings of `name` that are too large for a data set with these contents.

    Without annotations, only settings of the families that need none are checked. Families that use a pool have
    triplets of the pool's images, and their batch sizes are not checked.

    Args:
        params: the settings.
        name: the data set whose settings are checked.
        contents: the contents of the data set.
        trained: the data set that decides which first stages are trained, as others use no batch; None: `name`.
    """
    families = tuple(params.train.get(name, {})) if contents.triplets else generated_families(params, name)
    return [
        *_windows(params, name, contents, families),
        *_batches(params, name, contents, families, trained or name),
    ]


def fit_copied(params: Params, name: str, other: str, contents: Contents) -> list[Misfit]:
    """Returns the misfits that the settings of `name` have if they are those of `other`."""
    found = misfits(params, other, contents, trained=name)
    return [replace(each, path=(each.path[0], name, *each.path[2:])) for each in found]


def _windows(params: Params, name: str, contents: Contents, families: Sequence[str]) -> Iterator[Misfit]:
    windows = of_dataset(params.match, name, "match").window
    for family in families:
        window = windows.get(family)
        if window is not None and window[0] >= contents.images:
            reason = f"begins beyond the {contents.images} training images"
            yield Misfit(("match", name, "window", family), window, _WINDOW_SHARE, reason)


def _batches(params: Params, name: str, contents: Contents, families: Sequence[str], trained: str) -> Iterator[Misfit]:
    pooled = of_dataset(params.caption, name, "caption").pool
    for family in families:
        if family in pooled:
            continue
        stage1, own = (params.checkpoint.get(each, {}).get(family) for each in (name, trained))
        if stage1 is not None and own is not None and own.source == "train":
            path = ("checkpoint", name, family, "train", "batch_size")
            yield from _batch(path, stage1.train.batch_size, stage1.positives, contents)
        stage2 = params.train[name][family]
        yield from _batch(("train", name, family, "batch_size"), stage2.batch_size, stage2.positives, contents)


def _batch(path: KeyPath, size: int, positives: str, contents: Contents) -> Iterator[Misfit]:
    """Yields a misfit for a batch that is larger than an epoch's triplets.

    The number of generated triplets is known only later, as duplicates, empty captions and held-out images reduce it:
    half of the images is a careful estimate.
    """
    limit, reason = contents.triplets, f"exceeds the {contents.triplets} annotated training triplets"
    if positives == "generated" or not contents.triplets:
        limit = contents.images // 2
        reason = f"exceeds half of the {contents.images} images that triplets are generated from"
    if size > limit:
        yield Misfit(path, size, max(2, 1 << max(0, (limit // 2).bit_length() - 1)), reason)


def written(path: KeyPath, params: Params) -> Any:
    """Returns the value at a key path of the settings."""
    value: Any = params
    for name in path:
        value = value[name] if isinstance(value, Mapping) else getattr(value, name)
    return value


def describe(found: Iterable[Misfit]) -> list[str]:
    """Returns a line for each different change; families with the same change share one."""
    families: dict[tuple[Any, ...], list[str]] = {}
    for each in found:
        before, after = ".".join(each.path[: each.place]), ".".join(each.path[each.place + 1 :])
        families.setdefault((before, after, each.value, each.fitting, each.reason), []).append(each.family)
    lines = []
    for (before, after, value, fitting, reason), names in families.items():
        family = names[0] if len(names) == 1 else f"{{{','.join(names)}}}"
        key = ".".join(filter(None, (before, family, after)))
        lines.append(f"{key}: {_shown(fitting)} instead of {_shown(value)}, which {reason}")
    return lines


def _shown(value: Any) -> str:
    return str(list(value)) if isinstance(value, tuple) else str(value)
