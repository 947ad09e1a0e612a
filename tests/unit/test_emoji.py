"""The data set of emoji, from made-up packages: its changes, its splits, and what is refused."""

import io
import json
import os
import random
import sys
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from demo.emoji import dataset, models
from demo.emoji.changes import GROUP_SIZE, MOST_CHANGES, change_text, draw_changes
from demo.emoji.dataset import distinct, image_name, split_emoji, write_dataset
from demo.emoji.packages import OPENMOJI, RESVG, fetch, read_members
from demo.emoji.records import Emoji, differing, read_emoji
from demo.settings import PARAMS_FILE, EmojiSize, read_settings
from spn4cir.datasets.cirr import Cirr
from spn4cir.errors import InputError
from spn4cir.files import file_hash
from spn4cir.json_files import read_json
from spn4cir.positives.caption_files import read_captions
from spn4cir.positives.unicom import load_unicom

TONES = ("", "light", "medium-light", "medium", "medium-dark", "dark")
SIZE = EmojiSize(seed=1, image_size=16, val_share=0.45, things_share=0.0, train_triplets=60, val_triplets=30)
# Replaces Node.js: writes an image of one colour for each SVG file, which depends on the content alone.
NODE = """
import sys
from hashlib import sha256
from pathlib import Path
from PIL import Image
_, library, source, out, side = sys.argv[1:]
assert {"index.mjs", "index_bg.wasm"} <= {path.name for path in Path(library).iterdir()}
for path in Path(source).iterdir():
    colour = tuple(sha256(path.read_bytes()).digest()[:3])
    Image.new("RGB", (int(side), int(side)), colour).save(Path(out, path.stem + ".png"))
"""


def record(number, group, subgroup, annotation, skin=""):
    return {
        "hexcode": f"{0x1F300 + number:X}",
        "group": group,
        "subgroups": subgroup,
        "annotation": annotation,
        "tags": "one, two",
        "skintone_combination": skin,
    }


def records():
    """Roles and hands in six skin tones, hearts and books in several colours, animals, and a flag."""
    named = [
        ("people-body", "person-role", f"{who}{role}{f': {tone} skin tone' if tone else ''}", "single")
        for role in ("cook", "judge")
        for who in ("", "man ", "woman ")
        for tone in TONES
    ]
    named += [
        ("people-body", "hand-fingers-open", f"{name}{f': {tone} skin tone' if tone else ''}", "single")
        for name in ("waving hand", "raised hand")
        for tone in TONES
    ]
    named += [("smileys-emotion", "heart", f"{colour} heart", "") for colour in ("red", "blue", "light blue", "green")]
    named += [("animals-nature", "animal-bug", name, "") for name in ("ant", "bee", "snail", "black beetle")]
    named += [("flags", "country-flag", "flag: Atlantis", "")]
    named += [("people-body", "family", "kiss: dark skin tone, light skin tone", "multiple")]
    return [record(number, *values) for number, values in enumerate(named)]


def write_tar(path, files, links=()):
    """Writes a package of files by name, and of symbolic links to /etc/passwd."""
    with tarfile.open(path, "w:gz") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        for name in links:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
            tar.addfile(info)
    return path


def openmoji(rows):
    """Returns the files of a package. A man is drawn as a person without a gender."""
    files = {"package/data/openmoji.json": json.dumps(rows).encode(), "package/index.js": b"stop()"}
    drawn = {f"package/color/svg/{r['hexcode']}.svg": r["annotation"].removeprefix("man ").encode() for r in rows}
    return files | drawn


def install(folder, name, text, monkeypatch):
    """Puts a Python program before all others of its name."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!{sys.executable}\n{text}")
    (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


@pytest.fixture
def tarballs(tmp_path, monkeypatch):
    install(tmp_path / "bin", "node", NODE, monkeypatch)
    library = {"package/index.mjs": b"", "package/index_bg.wasm": b"", "package/index.js": b""}
    return {
        OPENMOJI: write_tar(tmp_path / "openmoji.tgz", openmoji(records())),
        RESVG: write_tar(tmp_path / "resvg.tgz", library),
    }


@pytest.fixture
def root(tarballs, tmp_path):
    write_dataset(SIZE, tarballs, tmp_path / "demo_emoji")
    return tmp_path / "demo_emoji"


def rows(root):
    """Returns the triplets of both splits, with their split."""
    files = {split: root / f"cirr/captions/cap.rc2.{split}.json" for split in ("train", "val")}
    return [row | {"split": split} for split, path in files.items() for row in read_json(path)]


def emoji_of(row):
    return Emoji(**{key: row[key] for key in row.keys() - {"image", "split"}} | {"tags": tuple(row["tags"])})


def by_name(root):
    """Returns split and emoji by the name of the image."""
    return {Path(row["image"]).stem: (row["split"], emoji_of(row)) for row in read_json(root / "emoji.json")}


@pytest.mark.parametrize(
    ("annotation", "expected", "caption"),
    [
        ("woman cook: dark skin tone", ("cook", "woman", "dark", "", ""), "woman cook with dark skin"),
        ("cook", ("cook", "person", "yellow", "", ""), "cook with yellow skin"),
        ("raised hand: medium-light skin tone", ("raised hand", "", "medium-light", "", ""), None),
    ],
)
def test_names_of_people_become_properties(annotation, expected, caption):
    (emoji,) = [each for each in read_emoji(records()) if each.annotation == annotation]
    assert tuple(getattr(emoji, key) for key in Emoji.PROPERTIES) == expected
    assert caption in (None, emoji.caption)


def test_hair_directions_and_plurals_are_read():
    named = (
        "man: dark skin tone, red hair",
        "woman: bald",
        "man walking: light skin tone, facing right",
        "men wrestling",
    )
    made = [record(number, "people-body", "person", name, "single") for number, name in enumerate(named)]
    emoji = read_emoji(made)
    assert [each.caption for each in emoji] == [
        "man with dark skin and red hair",
        "woman with yellow skin and no hair",
        "man walking facing right with light skin",
        "men wrestling with yellow skin",
    ]


def test_a_colour_is_a_property_only_of_things_in_several_colours():
    colours = {each.annotation: (each.colour, each.name) for each in read_emoji(records())}
    assert colours["light blue heart"] == ("light blue", "heart")
    assert colours["black beetle"] == ("", "black beetle")


def test_flags_and_images_of_two_skin_tones_are_left_out():
    assert not {each.annotation for each in read_emoji(records())} & {
        "flag: Atlantis",
        "kiss: dark skin tone, light skin tone",
    }


@pytest.mark.parametrize(("key", "value"), [("annotation", None), ("hexcode", "../1F600"), ("tags", 3)])
def test_a_wrong_record_is_named(key, value):
    with pytest.raises(InputError, match="record 1 has"):
        read_emoji([records()[0], records()[1] | {key: value}])


def test_of_equal_images_one_with_a_gender_is_kept(root):
    names = {each.annotation for _, each in by_name(root).values()}
    assert {"man cook", "woman cook"} <= names
    assert "cook" not in names
    images = [(root / row["image"]).read_bytes() for row in read_json(root / "emoji.json")]
    assert len(set(images)) == len(images)


def test_a_change_keeps_the_kind_and_most_properties_and_names_the_others(root):
    images = by_name(root)
    assert rows(root)
    for row in rows(root):
        (split, reference), (target_split, target) = images[row["reference"]], images[row["target_hard"]]
        assert split == target_split == row["split"]
        changed = differing(reference, target)
        assert 1 <= len(changed) <= MOST_CHANGES
        assert reference.kind == target.kind
        assert all(getattr(target, key) in row["caption"] for key in changed)
        matching = [e for _, e in images.values() if e.kind == target.kind and not differing(e, target)]
        assert matching == [target]


def test_groups_are_of_one_split_and_contain_reference_and_target(root):
    images = by_name(root)
    for row in rows(root):
        group = row["img_set"]["members"]
        assert {row["reference"], row["target_hard"]} <= set(group)
        assert len(group) == len(set(group)) == GROUP_SIZE
        assert {images[name][0] for name in group} == {row["split"]}


def test_no_image_and_no_pair_is_in_two_splits(root):
    named = {split: set() for split in ("train", "val")}
    for row in rows(root):
        named[row["split"]] |= {row["reference"], row["target_hard"]}
    assert not named["train"] & named["val"]
    pairs = [(row["reference"], row["target_hard"]) for row in rows(root)]
    assert len(pairs) == len(set(pairs))


def test_a_seed_repeats_itself_and_another_divides_differently():
    emoji = read_emoji(records())
    one, again = split_emoji(emoji, SIZE), split_emoji(emoji, SIZE)
    other = split_emoji(emoji, SIZE.model_copy(update={"seed": 2}))
    assert one == again
    assert set(one["val"].emoji) != set(other["val"].emoji)
    assert one["train"].changes != other["train"].changes
    for splits in (one, other):
        assert len(splits["val"].emoji) == round(SIZE.val_share * len(emoji))
        assert not set(splits["val"].emoji) & set(splits["train"].emoji)


def test_every_image_with_a_pair_is_a_reference_before_one_is_twice():
    emoji = [each for each in read_emoji(records()) if each.skin]
    changes = draw_changes(emoji, 10_000, random.Random(0))
    first = [change.reference for change in changes[: len(emoji)]]
    assert set(first) == set(emoji)
    assert len({(change.reference, change.target) for change in changes}) == len(changes)


def test_new_hair_needs_no_old_one():
    person = Emoji("1F468", "person", "man", (), "", who="man", skin="dark")
    texts = {change_text(person, replace(person, hair="beard"), random.Random(seed)) for seed in range(20)}
    assert texts == {"with a beard", "give them a beard", "now with a beard"}
    alike = [replace(person, hair=hair) for hair in ("", "beard", "bald", "red hair", "white hair", "curly hair")]
    changes = draw_changes(alike, 100, random.Random(0))
    assert len(changes) == 5 * 5
    assert all(change.target.hair for change in changes)


def test_kinds_too_small_for_a_group_have_no_changes():
    emoji = [each for each in read_emoji(records()) if each.kind == "heart"]
    assert len(emoji) < GROUP_SIZE
    assert draw_changes(emoji, 10, random.Random(0)) == []


def test_a_share_of_the_triplets_shows_things():
    made = [record(number, "animals-nature", "animal-bug", f"bug {number}") for number in range(30)]
    emoji = read_emoji(records() + [row | {"hexcode": f"{0x2F300 + n:X}"} for n, row in enumerate(made)])
    size = SIZE.model_copy(update={"things_share": 0.25, "train_triplets": 20, "val_triplets": 8})
    for split, count in (("train", 20), ("val", 8)):
        changes = split_emoji(emoji, size)[split].changes
        assert len(changes) == count
        assert sum(not change.reference.skin for change in changes) == count // 4


def test_the_reader_reads_what_is_written(root):
    layout = Cirr(root, "error")
    (val,) = layout.evaluation_splits()
    counts = {split: sum(row["split"] == split for row in rows(root)) for split in ("train", "val")}
    assert (len(layout.training_triplets()), len(val.triplets)) == (counts["train"], counts["val"])
    images = by_name(root)
    assert set(val.gallery.names) == {name for name, (split, _) in images.items() if split == "val"}
    assert all(path.is_file() for path in val.gallery.paths)
    captions = read_captions(layout.names.captions(8))
    assert {image.name for image in layout.caption_images("split")} == captions.keys()
    assert captions == {name: emoji.caption for name, (split, emoji) in images.items() if split == "train"}


def test_equal_settings_write_equal_files(root, tarballs, tmp_path):
    write_dataset(SIZE, tarballs, tmp_path / "again")
    for path in (path for path in root.rglob("*") if path.is_file()):
        assert (tmp_path / "again" / path.relative_to(root)).read_bytes() == path.read_bytes()


def test_an_image_without_its_file_is_left_out(tarballs, tmp_path):
    files = openmoji(records())
    del files[f"package/color/svg/{records()[0]['hexcode']}.svg"]
    write_dataset(SIZE, tarballs | {OPENMOJI: write_tar(tmp_path / "fewer.tgz", files)}, tmp_path / "fewer")
    assert records()[0]["hexcode"] not in {emoji.hexcode for _, emoji in by_name(tmp_path / "fewer").values()}


@pytest.mark.parametrize("content", [None, b"{", b"[3]"])
def test_a_package_without_metadata_is_refused(tarballs, tmp_path, content):
    files = openmoji(records())
    del files["package/data/openmoji.json"]
    files |= {"package/data/openmoji.json": content} if content else {}
    tarball = write_tar(tmp_path / "bad.tgz", files)
    with pytest.raises(InputError, match=r"data/openmoji\.json"):
        write_dataset(SIZE, tarballs | {OPENMOJI: tarball}, tmp_path / "bad")
    assert not (tmp_path / "bad").exists()


def test_a_renderer_that_fails_is_named(tarballs, tmp_path, monkeypatch):
    install(tmp_path / "broken", "node", "import sys; sys.exit('Error: no WebAssembly')", monkeypatch)
    with pytest.raises(InputError, match=r"node: rendering the emoji failed \(Error: no WebAssembly\)"):
        write_dataset(SIZE, tarballs, tmp_path / "bad")


@pytest.mark.parametrize("name", ["../outside.svg", "/etc/outside.svg", "package/../../outside.svg", "package\\..\\a"])
def test_a_member_outside_of_the_package_is_refused(tmp_path, name):
    tarball = write_tar(tmp_path / "bad.tgz", {"package/good.svg": b"1", name: b"2"})
    with pytest.raises(InputError, match="leads outside of the package"):
        list(read_members(tarball, lambda each: each.endswith(".svg")))


def test_a_wanted_link_is_refused_and_others_are_ignored(tmp_path):
    tarball = write_tar(tmp_path / "bad.tgz", {"package/a.svg": b"1"}, links=["package/link.svg"])
    with pytest.raises(InputError, match=r"'link\.svg' is a link"):
        list(read_members(tarball, lambda each: each.endswith(".svg")))
    assert list(read_members(tarball, lambda each: each == "a.svg")) == [("a.svg", b"1")]


def test_a_cut_tarball_is_refused(tmp_path):
    tarball = write_tar(tmp_path / "bad.tgz", {"package/a.svg": os.urandom(5000)})
    tarball.write_bytes(tarball.read_bytes()[:2000])
    with pytest.raises(InputError, match="is not a complete gzipped tar"):
        list(read_members(tarball, lambda each: True))


NPM = """
import shutil, sys
assert sys.argv[1:4] == ["pack", "--silent", "{package}"], sys.argv
shutil.copy("{source}", sys.argv[5])
"""


def test_a_package_is_fetched_by_npm_and_compared_with_its_hash(tmp_path, monkeypatch):
    source = write_tar(tmp_path / "made.tgz", {"package/a": b"1"})
    install(tmp_path / "bin", "npm", NPM.format(package=OPENMOJI, source=source), monkeypatch)
    made = replace(OPENMOJI, sha256=file_hash(source))
    assert fetch(made, tmp_path / "here").read_bytes() == source.read_bytes()
    with pytest.raises(InputError, match=f"npm returned a file that is not the published {OPENMOJI}"):
        fetch(OPENMOJI, tmp_path / "there")


def test_without_npm_or_network_the_cause_is_said(tmp_path, monkeypatch):
    install(tmp_path / "bin", "npm", "import sys; sys.exit('npm error code ENOTFOUND')", monkeypatch)
    with pytest.raises(InputError, match=r"npm: the download of openmoji@\S+ failed \(npm error code ENOTFOUND\)"):
        fetch(OPENMOJI, tmp_path / "here")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="npm: not found"):
        fetch(OPENMOJI, tmp_path / "there")


def test_the_command_ends_with_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.chdir(Path(__file__).parents[2])
    monkeypatch.setattr(sys, "argv", ["dataset", "--out", str(tmp_path / "out")])
    with pytest.raises(SystemExit, match=r"^npm: not found, the download of openmoji"):
        dataset.main()


def tiny_models():
    settings = read_settings(Path(__file__).parents[2] / PARAMS_FILE).emoji_models
    clip = settings.clip.model_copy(update={"steps": 2, "batch_size": 4, "vision_layers": 1, "text_layers": 1})
    encoder = settings.encoder.model_copy(update={"steps": 2, "batch_size": 4})
    return settings.model_copy(update={"clip": clip, "encoder": encoder})


def test_models_are_written_where_the_pipeline_reads_them(root, tmp_path):
    models.make_models(tiny_models(), root, tmp_path / "models")
    folders = [tmp_path / "models" / name for name in ("stage1/clip", "stage1/zs", "baselines/clip")]
    assert {tuple(sorted(path.name for path in folder.iterdir())) for folder in folders} == {
        ("open_clip_config.json", "open_clip_model.safetensors")
    }
    assert load_unicom(tmp_path / "models/encoder/unicom.pt")
    assert (tmp_path / "models/captioner").is_dir()


def test_models_see_images_of_the_train_split_alone(root):
    emoji, pixels = models.read_train(root, 32)
    assert emoji == [each for split, each in by_name(root).values() if split == "train"]
    assert pixels.shape == (len(emoji), 3, 32, 32)


def test_training_captions_name_the_thing_and_some_details():
    emoji = {each.annotation: each for each in read_emoji(records())}
    cooks = {models.free_caption(emoji["woman cook"], random.Random(seed)) for seed in range(200)}
    assert cooks == {
        "woman cook",
        "woman cook, one",
        "woman cook, two",
        "woman cook, one, two",
        "woman cook, two, one",
    } | {"woman cook with yellow skin"}
    assert models.free_caption(emoji["ant"], random.Random(0)).startswith("ant")


def test_labels_number_the_values_of_each_property():
    emoji = read_emoji(records())
    labels = models.label_columns(emoji)
    assert labels.shape == (len(emoji), len(models.LABELS))
    assert labels.min() == 0
    equal = labels[:, None, 2] == labels[None, :, 2]
    assert all(equal[i, j] == (a.who == b.who) for i, a in enumerate(emoji) for j, b in enumerate(emoji))


def test_names_of_images_are_unique():
    emoji = read_emoji(records())
    assert len({image_name(each) for each in emoji}) == len(emoji)
    assert distinct([], {}) == []
