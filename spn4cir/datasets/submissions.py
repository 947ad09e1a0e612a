"""What the files of a test server look like: plain values that layouts give, read by `spn4cir.submission`."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class SubmissionFile:
    """One file of a server: a JSON object of its header and, by query id, a list of image names.

    Attributes:
        metric: what the server makes of it.
        pattern: its name, with the field `{name}`.
        count: how many names a query has.
        query: what its ids are called, as in `pair`.
        split: what the test split is called.
        header: keys and values that stand there besides the queries.
        of_subset: the names are of the query's subset alone.
        integers: names are written as integers.
        own_reference: a query may list its own reference.
        max_bytes: how large it may be; None: no limit is known.
    """

    metric: str
    pattern: str
    count: int
    query: str
    split: str
    header: Mapping[str, str] = field(default_factory=dict)
    of_subset: bool = False
    integers: bool = False
    own_reference: bool = False
    max_bytes: int | None = None
