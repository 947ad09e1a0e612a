"""Copying a data set's block in the text of params.yaml: nothing else in the file changes."""

import io

import pytest
from ruamel.yaml import YAML

from spn4cir.errors import InputError
from spn4cir.projects.copy_settings import copy_settings, set_run

TEXT = """\
# head
run: {datasets: [old], models: [clip]}   # one line
seed: 42

datasets:
  "old":   {layout: cirr, missing: 'error'}  # quotes and a remark
  last: {layout: fashioniq,
         missing: skip}

# about caption
caption:
    # before old
    old:
        words: {clip: 8}     # aligned
        # deep inside

        prompt: >-
          two
          lines
        # a remark at the end of old
    # before last
    last:
        words: {clip: 5}

validate:
  last:
    clip: {eps: 1.0e-7}
  # shallow remark of last's section
"""


def load(text: str):
    return YAML(typ="safe").load(io.StringIO(text))


def test_the_copy_equals_the_original_but_for_its_layout_and_the_rest_is_as_it_was():
    before, after = load(TEXT), load(copy_settings(TEXT, "old", "new", "fashioniq", "p"))
    for section in ("datasets", "caption"):
        before[section]["new"] = dict(before[section]["old"])
    before["datasets"]["new"]["layout"] = "fashioniq"
    assert after == before


@pytest.mark.parametrize(("other", "name"), [("old", "new"), ("last", "x-2")])
def test_lines_are_only_added(other, name):
    added = copy_settings(TEXT, other, name, "cirr", "p").splitlines()
    rest = iter(added)
    assert all(line in rest for line in TEXT.splitlines()), "every old line is still there, in order"
    assert len(added) > len(TEXT.splitlines())


def test_comments_quotes_and_spacing_of_the_block_are_copied():
    text = copy_settings(TEXT, "old", "new", "fashioniq", "p")
    assert "  new:   {layout: fashioniq, missing: 'error'}  # quotes and a remark\n" in text
    block = text[text.index("    new:\n") : text.index("    # before last")]
    original = TEXT[TEXT.index("    old:\n") : TEXT.index("    # before last")]
    assert block == original.replace("old:", "new:", 1)


def test_the_copy_of_a_last_block_is_before_the_comment_of_the_next_section():
    text = copy_settings(TEXT, "last", "new", "fashioniq", "p")
    assert text.index("  new: {layout") < text.index("# about caption")
    assert text.count("# about caption") == text.count("# shallow remark") == 1
    assert text.endswith("  new:\n    clip: {eps: 1.0e-7}\n  # shallow remark of last's section\n")


def test_sections_that_hold_the_name_stay():
    once = copy_settings(TEXT, "old", "new", "cirr", "p")
    assert copy_settings(once, "old", "new", "cirr", "p") == once
    assert copy_settings(TEXT, "old", "last", "cirr", "p") == TEXT


def test_windows_line_ends_stay():
    text = TEXT.replace("\n", "\r\n")
    copied = copy_settings(text, "old", "new", "cirr", "p")
    assert copied == copy_settings(TEXT, "old", "new", "cirr", "p").replace("\n", "\r\n")


def test_a_file_without_a_last_line_end_gets_one():
    copied = copy_settings("datasets:\n  a: {layout: cirr}", "a", "b", "cirr", "p")
    assert copied == "datasets:\n  a: {layout: cirr}\n  b: {layout: cirr}\n"


def test_what_dvc_makes_of_the_file_can_be_copied_too():
    """`dvc exp run -S` writes the file again, with long lines folded and lists spread."""
    text = (
        "datasets:\n  a: {layout: cirr, missing: \n      error}\ntrain:\n  a:\n    betas:\n    - 0.9\n    - 1\n    k:\n"
    )
    assert load(copy_settings(text, "a", "b", "cirr", "p"))["train"]["b"] == {"betas": [0.9, 1], "k": None}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("datasets: {a: {layout: cirr}}\n", "p: datasets is written as {...}"),
        ("x: &y {layout: cirr}\ndatasets:\n  a: *y\n", "its layout is written elsewhere"),
        ("datasets:\n  a: {missing: skip}\n", "has no layout of its own"),
        ("datasets: [\n", "p: is not valid YAML"),
        ("- a\n", "p: contains no sections"),
    ],
)
def test_a_form_that_cannot_be_copied_line_by_line_is_refused(text, message):
    with pytest.raises(InputError) as caught:
        copy_settings(text, "a", "b", "cirr", "p")
    assert message in str(caught.value)


def test_annotations_are_written_into_the_entry() -> None:
    """They are written after the layout, in the entry's own style, or replace the other entry's; null for none."""
    for entry in ("{layout: cirr, pool: null}", "\n    layout: cirr\n    pool: null"):
        text = f"datasets:\n  a: {entry}\n"
        once = copy_settings(text, "a", "b", "folder", "p", {"annotations": 'x, "y".csv'})
        assert load(once)["datasets"]["b"] == {"layout": "folder", "annotations": 'x, "y".csv', "pool": None}
        twice = load(copy_settings(once, "b", "c", "folder", "p", {"annotations": "z.csv"}))["datasets"]
        assert twice["c"]["annotations"] == "z.csv"
        assert load(copy_settings(once, "b", "c", "cirr", "p"))["datasets"]["c"]["annotations"] is None


def test_settings_of_layouts_are_written_as_they_are() -> None:
    """Two of them beside each other; those of the other data set are not taken over."""
    text = "datasets:\n  a: {layout: cirr, pool: null}\n"
    table = {"images": "corpus/*", "columns": {"reference": "image: 1"}}
    options = {"table": table, "hub": {"repository": "a/b", "revision": "main"}}
    once = copy_settings(text, "a", "b", "table", "p", options)
    assert load(once)["datasets"]["b"] == {"layout": "table", **options, "pool": None}
    other = load(copy_settings(once, "b", "c", "table", "p", {"table": {"files": "*"}}))["datasets"]["c"]
    assert other == {"layout": "table", "table": {"files": "*"}, "hub": None, "pool": None}


def test_lists_of_run_are_replaced_in_any_form() -> None:
    """In one line, a line an item, and empty; all else stays as it is."""
    models = "  models:\n  - clip\n  - a: b\n    c: zs\n\n"
    text = f"run:\n  datasets: [a, b]   # two\n{models}  # next\n  submit: []\nseed: 1\n"
    changed = set_run(text, {"submit": ["c"], "models": ["x", "y"], "datasets": ["c"]}, "p")
    assert changed == ("run:\n  datasets: [c]   # two\n  models: [x, y]\n\n  # next\n  submit: [c]\nseed: 1\n")
    assert set_run(changed, {"models": ["x", "y"]}, "p") == changed
    flow = "run: {datasets: [a], models: [clip]}\n"
    assert set_run(flow, {"datasets": []}, "p") == "run: {datasets: [], models: [clip]}\n"


@pytest.mark.parametrize("text", ["seed: 1\n", "run: {}\n", "run: {datasets: a}\n", "run:\n  datasets:\n"])
def test_a_run_without_its_lists_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"p: run\.datasets: expected a list; write it as \[\]"):
        set_run(text, {"datasets": ["a"]}, "p")


def test_defaults_are_copied_for_no_data_set() -> None:
    """A section of `defaults` may have a data set's name."""
    text = "defaults:\n  match: {partners: 1}\nmatch:\n  match: {}\n"
    assert copy_settings(text, "match", "new", "cirr", "p") == text + "  new: {}\n"
