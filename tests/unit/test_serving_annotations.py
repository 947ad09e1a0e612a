"""The CSV file of the annotation page: whole rows, others' rows untouched, one line for what is no such file."""

import json
import multiprocessing
import os
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from typer.testing import CliRunner

from spn4cir.cli import app
from spn4cir.datasets.rows import read_table
from spn4cir.errors import InputError
from spn4cir.serving import annotations
from spn4cir.serving.annotation_text import Annotation, one_line
from spn4cir.serving.annotations import AnnotationFile
from tests.helpers.checkpoints import write_checkpoint
from tests.helpers.layouts import draw

ROOT = Path(__file__).parents[2]
HEADER = "reference,target,text,split\n"
ROW = "a.png,b.png,is red,val\n"
QUERY = Annotation("c.png", "in/d.png", "is longer")


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "queries.csv"


def write(path: Path, content: str) -> AnnotationFile:
    path.write_bytes(content.encode())
    return AnnotationFile(path)


def content(path: Path) -> str:
    return path.read_bytes().decode()


def test_a_new_file_gets_the_header_with_the_first_row(path):
    file = AnnotationFile(path)
    assert not path.exists()
    file.append(QUERY)
    assert content(path) == HEADER + "c.png,in/d.png,is longer,val\n"
    assert [(row.reference, row.target, row.texts, row.split) for row in file.rows()] == [
        ("c.png", "in/d.png", ("is longer",), "val")
    ]


@pytest.mark.parametrize("text", ['is "red", or pink', "'", '"', ",", "ü \u2028 日本", "a;b", "=1+1"])
@pytest.mark.parametrize("name", ["a.png", 'a "b", c.png', "two\nlines.png", "end\r.png"])
def test_every_text_and_name_is_read_as_it_was_written(path, text, name):
    file = AnnotationFile(path)
    written = file.append(Annotation(name, "b.png", text))
    file.append(QUERY)
    (row, _) = read_table(path)
    assert (row.reference, row.target, row.texts) == (name, "b.png", (one_line(text),))
    file.remove(written)
    assert content(path) == HEADER + "c.png,in/d.png,is longer,val\n"


def test_a_text_becomes_one_line(path):
    written = AnnotationFile(path).append(QUERY._replace(text="  is red,\r\n\tlonger \0 and\n\nwider "))
    assert written.text == "is red, longer and wider"
    assert content(path).endswith('"is red, longer and wider",val\n')


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", HEADER + "c.png,in/d.png,is longer,val\n"),
        ("\ufeff", "\ufeff" + HEADER + "c.png,in/d.png,is longer,val\n"),
        ("\ufeff" + HEADER, "\ufeff" + HEADER + "c.png,in/d.png,is longer,val\n"),
        (HEADER + ROW[:-1], HEADER + ROW + "c.png,in/d.png,is longer,val\n"),
        (HEADER + ROW + "\n", HEADER + ROW + "\nc.png,in/d.png,is longer,val\n"),
        ("reference,target,text,split\r\n", "reference,target,text,split\r\nc.png,in/d.png,is longer,val\r\n"),
        ("split,text,group,target,reference\n", "split,text,group,target,reference\nval,is longer,,in/d.png,c.png\n"),
        ("reference,target,text\na,b,x\n", "reference,target,text\na,b,x\nc.png,in/d.png,is longer\n"),
        (HEADER + "a,b,x,\n", HEADER + "a,b,x,\nc.png,in/d.png,is longer,\n"),
        (HEADER + "a,b,x,train\n", HEADER + "a,b,x,train\nc.png,in/d.png,is longer,val\n"),
    ],
)
def test_a_row_is_appended_to_a_file_in_the_file_s_own_form(path, before, after):
    file = write(path, before)
    file.append(QUERY)
    assert content(path) == after
    assert read_table(path)[-1].reference == "c.png"
    file.append(QUERY._replace(text="is wider"))
    file.remove(QUERY)
    file.append(QUERY)
    file.remove(QUERY._replace(text="is wider"))
    assert content(path) == after


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ("name,size\na,1\n", "has the columns name, size, expected reference, target, text and optionally split"),
        ("reference,target,text,author\n", "has the columns reference, target, text, author, expected"),
        ("reference,target,text,text\n", "each once"),
        ("\n" + HEADER, "has the columns"),
        ("reference,target\na,b\n", "has the columns reference, target, expected"),
        ("some words\n", "has the columns some words"),
        (HEADER + "a.png,b.png\n", "line 2 does not have as many cells as the header"),
        (HEADER + 'a.png,b.png,"is re', "is not a CSV file (unexpected end of data)"),
        (HEADER + "a.png,b.png,is red,va", "row 1: split is 'va', expected one of train, val, test"),
        (HEADER + ",b.png,is red,val\n", "row 1: reference is ''"),
        ("reference,target,text,group\na,b,is red,1\n", "has rows with a group"),
    ],
)
def test_what_is_no_such_file_is_one_line_and_stays_as_it_is(path, found, said):
    with pytest.raises(InputError) as error:
        write(path, found)
    assert said in str(error.value)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
    assert content(path) == found


def test_bytes_that_are_no_text_are_one_line(path):
    path.write_bytes(b"\xff\xfeA")
    with pytest.raises(InputError, match="is not a CSV file in UTF-8"):
        AnnotationFile(path)


def test_places_that_cannot_be_a_file_are_one_line(path):
    (path.parent / "link.csv").symlink_to(path)
    for place, said in (
        (path.with_suffix(".parquet"), "writes CSV"),
        (path.parent / "link.csv", "is a link"),
        (path.parent, "is not a file"),
        (path / "a.csv", "no such folder"),
    ):
        with pytest.raises(InputError, match=said):
            AnnotationFile(place)


def test_a_split_that_the_rows_cannot_take_is_one_line(path):
    path.write_text("reference,target,text\na,b,is red\n")
    with pytest.raises(InputError, match="its rows state no split, so a row of test cannot be added"):
        AnnotationFile(path, "test")
    path.write_text(HEADER)
    assert (AnnotationFile(path, "test").split, AnnotationFile(path).split) == ("test", "val")


@pytest.mark.parametrize(
    ("query", "said"),
    [
        (QUERY._replace(text=" \n\0"), "the text is empty"),
        (QUERY._replace(text="x" * 2001), "the text has 2,001 characters, more than 2,000; shorten it"),
        (QUERY._replace(target="c.png"), "the target is the reference"),
        (QUERY._replace(text="\ud800"), "not valid Unicode"),
        (Annotation("a.png", "b.png", " is  red"), "already contains this query"),
    ],
)
def test_an_invalid_query_is_refused_and_nothing_is_written(path, query, said):
    file = write(path, HEADER + ROW)
    with pytest.raises(InputError, match=said):
        file.append(query)
    assert content(path) == HEADER + ROW


def test_undo_takes_the_last_row_of_the_query_and_leaves_the_others_byte_for_byte(path):
    mine, others = "c.png,in/d.png,is longer,val\n", 'x.png,"y.png","says ""hi""\nand more",train\n'
    file = write(path, HEADER + mine + others)
    with path.open("a") as stream:  # another program repeats the row
        stream.write(mine + "\n" + others + "\n")
    assert file.remove(QUERY)
    assert content(path) == HEADER + mine + others + "\n" + others + "\n"
    file.remove(QUERY)
    assert content(path) == HEADER + others + "\n" + others + "\n"
    assert not file.remove(QUERY)
    assert content(path) == HEADER + others + "\n" + others + "\n"


def test_the_file_is_read_again_before_each_change(path):
    file = AnnotationFile(path)
    file.append(QUERY)
    path.write_text(HEADER + ROW)
    file.append(QUERY)
    assert content(path) == HEADER + ROW + "c.png,in/d.png,is longer,val\n"
    path.write_text("damaged\n")
    for change in (file.append, file.remove):
        with pytest.raises(InputError, match="has the columns damaged"):
            change(QUERY)
    assert content(path) == "damaged\n"


@pytest.mark.parametrize("moment", ["os.fsync", "pathlib.Path.replace"])
def test_a_kill_in_the_middle_of_a_write_leaves_the_whole_old_file(path, moment):
    write(path, HEADER + ROW)
    program = (
        "import os, sys, pathlib\n"
        "from spn4cir.serving.annotation_text import Annotation\n"
        "from spn4cir.serving.annotations import AnnotationFile\n"
        f"{moment} = lambda *_: os._exit(7)\n"
        "AnnotationFile(pathlib.Path(sys.argv[1])).append(Annotation('c.png', 'd.png', 'is longer'))"
    )
    done = subprocess.run([sys.executable, "-c", program, path], env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == 7
    assert content(path) == HEADER + ROW
    AnnotationFile(path).append(QUERY)
    assert content(path) == HEADER + ROW + "c.png,in/d.png,is longer,val\n"
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_a_full_disk_leaves_the_whole_old_file(path, monkeypatch):
    file = write(path, HEADER + ROW)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(annotations.os, "fsync", full)
    with pytest.raises(InputError, match="the disk is full"):
        file.append(QUERY)
    assert content(path) == HEADER + ROW


def test_the_mode_of_the_file_is_kept(path):
    file = write(path, HEADER)
    path.chmod(0o600)
    file.append(QUERY)
    assert path.stat().st_mode & 0o777 == 0o600


def append_many(path: Path, name: str) -> None:
    file = AnnotationFile(path)
    for number in range(10):
        file.append(Annotation(name, "b.png", f"change {number}"))
        file.append(Annotation(name, "b.png", f"mistake {number}"))
        file.remove(Annotation(name, "b.png", f"mistake {number}"))


def test_several_servers_that_write_at_once_lose_no_row(path):
    context = multiprocessing.get_context("fork")
    servers = [context.Process(target=append_many, args=(path, f"{number}.png")) for number in range(4)]
    for server in servers:
        server.start()
    for server in servers:
        server.join()
    assert [server.exitcode for server in servers] == [0] * 4
    rows = [(row.reference, row.texts[0]) for row in read_table(path)]
    assert sorted(rows) == sorted((f"{each}.png", f"change {number}") for each in range(4) for number in range(10))


def test_the_file_is_checked_and_scored_as_it_is(tmp_path):
    folder, checkpoint = tmp_path / "images", write_checkpoint(tmp_path / "best.pt", stage=2)
    names = [f"{number:02}, in.png" for number in range(60)]
    for number, name in enumerate(names):
        draw(folder / name, number)
    file = AnnotationFile(folder / "queries.csv")
    for reference, target in pairwise(names[:4]):
        file.append(Annotation(reference, target, 'is "red", or\nblue'))
    data = ["--layout", "folder", "--root", str(folder), "--annotations", str(file.path)]
    checked = CliRunner().invoke(app, ["check-data", *data])
    assert checked.exit_code == 0, checked.output
    assert re.search(r"^val +3 +0 +60 +0 +0$", checked.output, re.MULTILINE)
    scores = tmp_path / "metrics.json"
    network = ["--checkpoint", str(checkpoint), "--workers", "0", "--json", str(scores)]
    scored = CliRunner().invoke(app, ["validate", *data, *network])
    assert scored.exit_code == 0, scored.output
    assert json.loads(scores.read_text())["counts"]["queries"] == {"val": 3}
