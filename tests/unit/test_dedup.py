import json
import signal
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from spn4cir.datasets import json_records
from spn4cir.errors import InputError
from spn4cir.images.decoding import pixel_digest
from spn4cir.json_files import write_json
from spn4cir.positives.dedup import deduplicate, read_optimized_images, write_optimized_images
from spn4cir.positives.digest_file import read_digests
from spn4cir.positives.equal_images import group_equal
from spn4cir.types import Gallery, UniqueImages
from tests.helpers.memory import peak_bytes_each


def draw(path: Path, pixels: list[list[tuple[int, int, int]]]) -> Path:
    Image.fromarray(np.array(pixels, dtype=np.uint8)).save(path)
    return path


def gallery(*paths: Path) -> Gallery:
    return Gallery(tuple(path.name for path in paths), tuple(paths))


RED, BLUE = (255, 0, 0), (0, 0, 255)


@pytest.mark.parametrize("workers", [0, 2])
def test_first_of_equal_images_is_kept(tmp_path: Path, workers: int) -> None:
    """Of a, b, a, b, c the rows are 0, 1, 0, 1, 2 and the kept images are the first three met."""
    images = gallery(
        draw(tmp_path / "1.png", [[RED, BLUE]]),
        draw(tmp_path / "2.png", [[BLUE, RED]]),
        draw(tmp_path / "3.png", [[RED, BLUE]]),
        draw(tmp_path / "4.png", [[BLUE, RED]]),
        draw(tmp_path / "5.png", [[BLUE, BLUE]]),
    )
    unique = deduplicate(images, workers)
    assert unique.gallery.names == ("1.png", "2.png", "5.png")
    assert unique.gallery.paths == (images.paths[0], images.paths[1], images.paths[4])
    assert unique.row == {"1.png": 0, "2.png": 1, "3.png": 0, "4.png": 1, "5.png": 2}


def test_encoding_does_not_matter(tmp_path: Path) -> None:
    """The same pixels as PNG, BMP, palette, grey and RGBA files are one image."""
    grey = Image.fromarray(np.arange(60, dtype=np.uint8).reshape(6, 10))
    files = {"rgb.png": "RGB", "rgb.bmp": "RGB", "grey.png": "L", "alpha.png": "RGBA"}
    for name, mode in files.items():
        grey.convert(mode).save(tmp_path / name)
    grey.convert("RGB").convert("P", palette=Image.Palette.ADAPTIVE).save(tmp_path / "palette.png")
    assert len({pixel_digest(tmp_path / name) for name in (*files, "palette.png")}) == 1


def test_shape_matters(tmp_path: Path) -> None:
    """The same bytes as 2 x 3, 3 x 2 and 1 x 6 pixels are three images."""
    six = [RED, BLUE, RED, RED, BLUE, BLUE]
    images = gallery(
        draw(tmp_path / "wide.png", [six[:3], six[3:]]),
        draw(tmp_path / "high.png", [six[:2], six[2:4], six[4:]]),
        draw(tmp_path / "row.png", [six]),
    )
    assert len(deduplicate(images, 0).gallery) == 3


def test_one_value_off_is_another_image(tmp_path: Path) -> None:
    images = gallery(draw(tmp_path / "a.png", [[RED, BLUE]]), draw(tmp_path / "b.png", [[RED, (0, 0, 254)]]))
    assert len(deduplicate(images, 0).gallery) == 2


@pytest.mark.parametrize("workers", [0, 2])
def test_truncated_image_is_one_line_that_names_it(tmp_path: Path, workers: int) -> None:
    """A worker's error arrives without its traceback."""
    paths = [draw(tmp_path / f"{i}.png", [[RED, (i, 0, 0)]]) for i in range(40)]
    paths[33].write_bytes(paths[33].read_bytes()[:40])
    with pytest.raises(InputError, match=r"33\.png: cannot be decoded") as raised:
        deduplicate(gallery(*paths), workers)
    assert "\n" not in str(raised.value)
    assert raised.value.__cause__ is None


def test_absent_image_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.png: no such image"):
        deduplicate(gallery(tmp_path / "none.png"), 2)


def test_no_images_is_an_error() -> None:
    with pytest.raises(InputError, match="no images"):
        deduplicate(Gallery((), ()), 2)


def broken_at(paths: list[Path], position: int) -> bytes:
    """Cuts an image, and returns what it was."""
    whole = paths[position].read_bytes()
    paths[position].write_bytes(whole[:40])
    return whole


@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_that_ended_early_continues(tmp_path: Path, workers: int, capsys: pytest.CaptureFixture[str]) -> None:
    """What was decoded before is not read again: those files are gone, and the digests are those of a whole run."""
    work = tmp_path / "work"
    work.mkdir()
    paths = [draw(tmp_path / f"{i}.png", [[RED, (i % 50, 0, 0)]]) for i in range(200)]
    expected = deduplicate(gallery(*paths), 0)
    whole = broken_at(paths, 150)
    with pytest.raises(InputError, match=r"150\.png: cannot be decoded"):
        deduplicate(gallery(*paths), workers, work)
    done = len(read_digests(work / "digests.bin")) // 32
    assert 150 - 16 <= done <= 150
    paths[150].write_bytes(whole)
    for path in paths[:done]:
        path.unlink()
    assert deduplicate(gallery(*paths), workers, work) == expected
    assert f"dedup: resumed after {done} of 200 images\n" in capsys.readouterr().out
    for path in paths[done:]:
        path.unlink()
    assert deduplicate(gallery(*paths), workers, work) == expected


def test_a_killed_run_loses_few_digests_and_the_part_of_one_is_made_again(tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    paths = [draw(tmp_path / f"{i}.png", [[RED, (i, 0, 0)]]) for i in range(200)]
    expected = deduplicate(gallery(*paths), 0)
    script = (
        "import os, sys; from pathlib import Path\n"
        "from spn4cir.positives import dedup; from spn4cir.types import Gallery\n"
        "folder = Path(sys.argv[1]); paths = tuple(folder / f'{i}.png' for i in range(200))\n"
        "read = dedup.pixel_digest\n"
        "dedup.pixel_digest = lambda path: os.kill(os.getpid(), 9) if path.name == '150.png' else read(path)\n"
        "dedup.deduplicate(Gallery(tuple(path.name for path in paths), paths), 0, folder / 'work')"
    )
    assert subprocess.run([sys.executable, "-c", script, str(tmp_path)]).returncode == -signal.SIGKILL
    stored = work / "digests.bin"
    assert 150 - 64 < len(read_digests(stored)) // 32 <= 150
    with stored.open("ab") as stream:
        stream.write(b"part")
    assert deduplicate(gallery(*paths), 0, work) == expected


def test_what_a_power_cut_leaves_is_not_taken_for_digests(tmp_path: Path) -> None:
    """The file has its length, and its end is zeros or what was on the disk before."""
    paths = [draw(tmp_path / f"{i}.png", [[RED, (i, 0, 0)]]) for i in range(100)]
    expected = deduplicate(gallery(*paths), 0)
    path = tmp_path / "digests.bin"
    deduplicate(gallery(*paths), 0, tmp_path)
    whole = path.read_bytes()
    first = 8 + 64 * 32
    for start, end in ((0, first), (first, len(whole)), (first + 8, len(whole)), (40, 41)):
        for left in (bytes(end - start), bytes(byte ^ 255 for byte in whole[start:end])):
            path.write_bytes(whole[:start] + left + whole[end:])
            assert len(read_digests(path)) // 32 in ((0,) if start < first else (64,))
            assert deduplicate(gallery(*paths), 0, tmp_path) == expected
            assert path.read_bytes() == whole


def test_digests_of_more_images_are_refused(tmp_path: Path) -> None:
    paths = [draw(tmp_path / f"{i}.png", [[RED, (i, 0, 0)]]) for i in range(3)]
    deduplicate(gallery(*paths), 0, tmp_path)
    with pytest.raises(InputError, match="contains digests of more than 2 images; remove the folder"):
        deduplicate(gallery(*paths[:2]), 0, tmp_path)


def test_digests_that_cannot_be_stored_are_one_line(tmp_path: Path) -> None:
    image = draw(tmp_path / "a.png", [[RED]])
    (tmp_path / "work" / "digests.bin").mkdir(parents=True)
    with pytest.raises(InputError, match=r"digests\.bin: cannot be written"):
        deduplicate(gallery(image), 0, tmp_path / "work")


def test_workers_end_with_a_killed_parent(tmp_path: Path) -> None:
    """A run that is killed leaves no decoding process behind."""
    image = draw(tmp_path / "a.png", [[RED]])
    script = (
        "import sys; from pathlib import Path; from spn4cir.positives import dedup\n"
        f"paths = [Path({str(image)!r})] * 10**7\n"
        "for i, _ in enumerate(dedup._digests(paths, 2)):\n"
        "    if i == 100: print('ready', flush=True)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, start_new_session=True)
    assert parent.stdout is not None
    assert parent.stdout.readline() == b"ready\n"
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 10
    while group_lives(parent.pid):
        assert time.monotonic() < deadline, "decoding processes outlived their parent"
        time.sleep(0.05)


def group_lives(group: int) -> bool:
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rsplit(") ", 1)[1].split()
        except OSError:
            continue
        if int(fields[2]) == group and fields[0] != "Z":
            return True
    return False


def test_decoding_needs_no_torch() -> None:
    """Importing torch takes seconds; the stage and its workers start without it."""
    script = "import sys, spn4cir.positives.dedup; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0


def unique_images() -> UniqueImages:
    return UniqueImages(Gallery(("a", "b"), (Path("x/a.png"), Path("x/b.png"))), {"a": 0, "b": 1, "c": 0})


def test_written_form_is_the_published_one(tmp_path: Path) -> None:
    write_optimized_images(unique_images(), tmp_path / "optimized_images.json")
    content = json.loads((tmp_path / "optimized_images.json").read_text())
    assert content == [["a", "b"], ["x/a.png", "x/b.png"], {"a": 0, "b": 1, "c": 0}]


def test_paths_of_another_machine_are_resolved_by_name(tmp_path: Path) -> None:
    path = tmp_path / "optimized_images.json"
    path.write_text(json.dumps([["a", "b"], ["/home/x/a.png", "/home/x/b.png"], {"a": 0, "c": 0, "b": 1}]))
    unique = read_optimized_images(path, lambda name: tmp_path / f"{name}.jpg")
    assert unique.gallery.paths == (tmp_path / "a.jpg", tmp_path / "b.jpg")
    assert unique.row == {"a": 0, "b": 1, "c": 0}


def test_reading_takes_little_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The texts of the names and the dictionary of rows take most of it."""
    monkeypatch.setattr(json_records, "_BLOCK", 1 << 14)

    def write_and_read(count: int) -> None:
        path = tmp_path / f"{count}.json"
        if not path.exists():
            row = {f"{number:09d}": number for number in range(count)}
            write_json(path, [list(row), [f"train/{name}.jpg" for name in row], row])
            del row
        tracemalloc.reset_peak()
        assert len(read_optimized_images(path, lambda name: tmp_path).gallery) == count

    assert peak_bytes_each(write_and_read) < 350


def test_equal_digests_are_one_group_whose_first_is_kept() -> None:
    digests = [bytes([number] * 31 + [0]) for number in (5, 0, 5, 1, 0, 0, 2)]
    kept, group = group_equal(b"".join(digests))
    assert kept.tolist() == [0, 1, 3, 6]
    assert group.tolist() == [0, 1, 0, 2, 1, 1, 3]
    assert [part.tolist() for part in group_equal(b"")] == [[], []]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ({"a": 1}, "got dict"),
        ([["a"], ["p"]], "got list of 2"),
        (["a", "p", {}], "got str, str, dict"),
        ([["a"], ["p", "q"], {"a": 0}], "1 names, 2 paths"),
        ([[], [], {}], "0 names"),
        ([["a"], ["p"], {"a": 1}], "'a' has row 1, expected 0 to 0"),
        ([["a"], ["p"], {"a": "0"}], "'a' has row '0'"),
        ([["a", "b"], ["p", "q"], {"a": 0}], "kept name 'b' is at 1 but its row is None"),
        ([["a", 3], ["p", "q"], {"a": 0, "3": 1}], "kept name 3"),
    ],
)
def test_malformed_file_says_what_is_wrong(tmp_path: Path, content: object, problem: str) -> None:
    path = tmp_path / "optimized_images.json"
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=problem) as raised:
        read_optimized_images(path, Path)
    assert str(path) in str(raised.value)
