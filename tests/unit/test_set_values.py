"""Single values of params.yaml: what is set, and that nothing else changes."""

from pathlib import Path
from typing import Any

import pytest
from dvc.utils.hydra import apply_overrides
from dvc.utils.serialize import load_yaml
from ruamel.yaml import YAML

from spn4cir.config.load import parse_params
from spn4cir.errors import InputError
from spn4cir.projects import set_values as module
from spn4cir.projects.set_values import KeyPath, compose, remove_values, set_values

ROOT = Path(__file__).parents[2]
TEXT = """\
# Above.
run:
  models: [clip]   # remark
  names:
    - a
    - b
# Between.
train:
  mine:
    clip: {lr: 1.0, batch_size: 64}   # 64
    zs: {}
match: {mine: {window: {clip: [400, 800]}}}
last:
"""


@pytest.mark.parametrize(
    ("path", "value", "line"),
    [
        (("run", "models"), ["zs", "clip"], "  models: [zs, clip]   # remark"),
        (("run", "names"), [], "  names: []"),
        (("train", "mine", "clip", "batch_size"), 8, "    clip: {lr: 1.0, batch_size: 8}   # 64"),
        (("train", "mine", "clip", "epochs"), 2, "    clip: {lr: 1.0, batch_size: 64, epochs: 2}   # 64"),
        (("train", "mine", "zs", "deep", "epochs"), 2, "    zs: {deep: {epochs: 2}}"),
        (("train", "mine", "blip"), {"a": None}, "    blip: {a: null}"),
        (("match", "mine", "window", "clip"), [0.4, 0.8], "match: {mine: {window: {clip: [0.4, 0.8]}}}"),
        (("last",), "a b", 'last: "a b"'),
        (("new",), "no", 'new: "no"'),
    ],
)
def test_one_value_is_set_and_every_other_line_stays(path: KeyPath, value: Any, line: str) -> None:
    changed = set_values(TEXT, {path: value}, "p")
    assert line in changed.splitlines()
    gone = set(TEXT.splitlines()) - set(changed.splitlines())
    assert len(gone) <= (3 if path == ("run", "names") else 1)
    read = YAML(typ="safe").load(changed)
    for name in path:
        read = read[name]
    assert read == value


def test_edits_leave_the_nodes_of_the_text_as_they_are() -> None:
    """They are kept for the next edit of the same text."""
    text = "a: {b: 1, c: [2, 3]}\nd:\n  e: 4  # four\n  f: 5\n"
    nodes, before = compose(text, "p"), str(YAML().compose(text))
    set_values(text, {("a", "b"): 7, ("a", "g"): {"h": 1}, ("d", "e"): [1], ("i",): "x"}, "p")
    remove_values(text, [("a", "c"), ("d", "e"), ("d", "f")], "p")
    assert str(nodes) == before
    assert compose(text, "p") is nodes


def test_many_values_are_set_as_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also values that are added to one mapping, within a new mapping, or to a key that had no mapping."""
    values: dict[KeyPath, Any] = {
        ("run", "models"): ["zs"],
        ("train", "mine", "clip", "lr"): 2.0,
        ("train", "mine", "clip", "epochs"): 2,
        ("train", "mine", "clip", "seed"): 3,
        ("train", "mine", "zs", "deep", "epochs"): 4,
        ("train", "mine", "zs", "deep", "lr"): 5,
        ("match", "mine"): {"window": {}},
        ("match", "mine", "window", "clip"): [1, 2],
        ("last",): {},
        ("last", "a"): 6,
        ("run", "names"): ["hf-hub:a/b"],
    }
    expected = TEXT
    for path, value in values.items():
        expected = set_values(expected, {path: value}, "p")
    parsed: list[str] = []
    monkeypatch.setattr(module, "compose", lambda text, place: parsed.append(text) or compose(text, place))
    assert set_values(TEXT, values, "p") == expected
    assert len(parsed) < len(values)


def test_dvc_reads_names_with_a_colon_after_it_changed_another_value(tmp_path: Path) -> None:
    """DVC writes them without quotes; its YAML reader takes them only if each is on its own line."""
    networks = ["local-dir:base", "open_clip:ViT-B-32/openai"]
    changed = set_values(TEXT, {("train", "mine", "zs", "networks"): networks}, "p")
    assert '    zs:\n      networks:\n        - "local-dir:base"\n' in changed
    place = tmp_path / "p.yaml"
    place.write_text(changed, encoding="utf-8")
    apply_overrides(place, ["train.mine.clip.lr=2.0"])
    read = load_yaml(place)["train"]["mine"]
    assert (read["clip"]["lr"], read["zs"]["networks"]) == (2.0, networks)
    again = set_values(changed, {("train", "mine", "zs", "networks"): ["hf-hub:a/b"]}, "p")
    assert again == changed.replace('- "local-dir:base"\n        - "open_clip:ViT-B-32/openai"', '- "hf-hub:a/b"')
    inside = set_values("a: {b: {}}\n", {("a", "b", "c"): networks[:1]}, "p")
    assert inside == 'a: {b: {c: ["local-dir:base"]}}\n'


def test_values_of_the_projects_own_file_are_read_back() -> None:
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    window, epochs = ("match", "fiq", "window", "clip"), ("checkpoint", "fiq", "zs", "train", "epochs")
    changed = set_values(text, {window: [0.4, 0.8], epochs: 3, ("models", "fiq", "captioner"): None}, "p")
    params = parse_params(changed, "p")
    assert params.match["fiq"].window["clip"] == (0.4, 0.8)
    assert params.checkpoint["fiq"]["zs"].train.epochs == 3
    assert params.models["fiq"].captioner is None


@pytest.mark.parametrize(
    ("text", "path", "message"),
    [
        (TEXT, ("last", "a"), "p: last: expected keys with values; write it as {}"),
        ("a: &x {b: 1}\nc: *x\n", ("c", "b"), r"p: c\.b: is written elsewhere"),
        ("- a\n", ("a",), "p: contains no sections"),
    ],
)
def test_a_path_that_leads_nowhere_is_refused(text: str, path: KeyPath, message: str) -> None:
    with pytest.raises(InputError, match=message):
        set_values(text, {path: 1}, "p")


@pytest.mark.parametrize(
    ("before", "path", "after"),
    [
        ("a: {b: 1, c: {d: 2}, e: 3}  # f\n", "a.b", "a: {c: {d: 2}, e: 3}  # f\n"),
        ("a: {b: 1, c: {d: 2}, e: 3}  # f\n", "a.c", "a: {b: 1, e: 3}  # f\n"),
        ("a: {b: 1, c: {d: 2}, e: 3}  # f\n", "a.e", "a: {b: 1, c: {d: 2}}  # f\n"),
        ("a: {b: 1, c: {d: 2}, e: 3}  # f\n", "a.c.d", "a: {b: 1, c: {}, e: 3}  # f\n"),
        ("a: {b: 1,  # of b\n    c: 2, d: 3}\n", "a.c", "a: {b: 1,  # of b\n    d: 3}\n"),
        ("a: {b: 1,  # of b\n    c: 2}\n", "a.c", "a: {b: 1,  # of b\n    }\n"),
        ("a:\n  b: 1\n  # of c\n  c: [2]\n  d: 3\n", "a.c", "a:\n  b: 1\n  # of c\n  d: 3\n"),
        ("a:\n  b: 1\n  c:\n    - 2\n# end\n", "a.c", "a:\n  b: 1\n# end\n"),
        ("a:\n  b: 1\n  c: 2  # of c\n", "a.c", "a:\n  b: 1\n  # of c\n"),
        ("a:\n  b: 1\n  c: 2", "a.c", "a:\n  b: 1\n"),
        ("a:  # of a\n  b: 1  # of b\nc: 2\n", "a.b", "a: {}  # of a  # of b\nc: 2\n"),
        ("a: {b: 1}\n", "a.c", "a: {b: 1}\n"),
        ("a: {b: 1}\n", "a.b.c", "a: {b: 1}\n"),
    ],
)
def test_a_key_is_removed_and_everything_else_stays(before: str, path: str, after: str) -> None:
    assert remove_values(before, [tuple(path.split("."))], "p") == after
    read = YAML(typ="safe").load(after)
    for name in path.split("."):
        read = read.get(name, {}) if isinstance(read, dict) else {}
    assert read == {}


def test_a_key_of_an_alias_is_not_removed() -> None:
    with pytest.raises(InputError, match=r"b\.c: is written elsewhere"):
        remove_values("a: &x {c: 1}\nb: *x\n", [("b", "c")], "p")
