from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from spn4cir.errors import InputError
from spn4cir.positives.partners import Partner, Partners, Window, ranks_of, read_partners, write_partners
from spn4cir.types import Gallery

GALLERY = Gallery(("a", "b", "c"), (Path("a.png"), Path("b.png"), Path("c.png")))


def partners(window: tuple[int, int] | None, target: list[int]) -> Partners:
    rows = np.arange(3)
    return Partners(window, rows, np.array(target), np.array([1, 2, 1]), np.array([0.5, 0.25, 0.125], np.float32))


def test_one_file_holds_all_windows(tmp_path: Path) -> None:
    """Each window is read back by itself, in the order written, with names in place of rows."""
    path = tmp_path / "match" / "partners.parquet"
    write_partners([partners((1, 3), [1, 2, 0]), partners(None, [2, 0, 1])], GALLERY, path)
    assert read_partners(path, (1, 3)) == (
        Partner("a", "b", 1, 0.5),
        Partner("b", "c", 2, 0.25),
        Partner("c", "a", 1, 0.125),
    )
    assert [partner.target_name for partner in read_partners(path, None)] == ["c", "a", "b"]
    assert [file.name for file in path.parent.iterdir()] == ["partners.parquet"]


def test_columns_are_the_documented_ones(tmp_path: Path) -> None:
    path = tmp_path / "partners.parquet"
    write_partners([partners((1, 3), [1, 2, 0]), partners(None, [2, 0, 1])], GALLERY, path)
    table = pq.read_table(path)
    assert table.column_names == ["reference", "target", "rank", "similarity", "window_start", "window_end"]
    assert table["window_start"].to_pylist() == [1, 1, 1, None, None, None]
    assert table["window_end"].to_pylist() == [3, 3, 3, None, None, None]


def test_absent_window_is_named(tmp_path: Path) -> None:
    write_partners([partners((1, 3), [1, 2, 0])], GALLERY, tmp_path / "partners.parquet")
    with pytest.raises(InputError, match="contains no partners of window null"):
        read_partners(tmp_path / "partners.parquet", None)


def test_absent_and_malformed_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_partners(tmp_path / "none.parquet", None)
    (tmp_path / "text.parquet").write_text("hello")
    with pytest.raises(InputError, match=r"text\.parquet: is not a file of partners"):
        read_partners(tmp_path / "text.parquet", None)
    pq.write_table(pa.table({"reference": ["a"]}), tmp_path / "other.parquet")
    with pytest.raises(InputError, match=r"other\.parquet: is not a file of partners \(columns reference\)"):
        read_partners(tmp_path / "other.parquet", None)
    write_partners([partners((1, 3), [1, 2, 0])], GALLERY, tmp_path / "types.parquet")
    table = pq.read_table(tmp_path / "types.parquet")
    pq.write_table(table.set_column(2, "rank", pa.array(["first"] * 3)), tmp_path / "types.parquet")
    with pytest.raises(InputError, match=r"types\.parquet: is not a file of partners \(Failed to parse string"):
        read_partners(tmp_path / "types.parquet", (1, 3))


@pytest.mark.parametrize(
    ("window", "images", "ranks"),
    [
        (None, 10, None),
        ((10_000, 20_000), 10, (10_000, 20_000)),
        ((0.4, 0.8), 25_136, (10_054, 20_109)),
        ((0.0, 1.0), 10, (1, 10)),
        ((0.25, 0.75), 10, (3, 8)),  # 2.5 and 7.5: a half is rounded up
        ((0.29, 0.57), 100, (29, 57)),  # 28.999... and 56.999... as floats
        ((0.4, 0.8), 2, (1, 2)),
    ],
)
def test_shares_are_rounded_to_the_nearest_rank(
    window: Window | None, images: int, ranks: tuple[int, int] | None
) -> None:
    """They never give rank 0, which is the image itself; ranks are unchanged."""
    assert ranks_of(window, images) == ranks


def test_a_window_of_shares_is_found_by_its_ranks(tmp_path: Path) -> None:
    """Of three images, the shares 0.4 and 0.8 are the ranks 1 and 2 (1.2 and 2.4, rounded)."""
    path = tmp_path / "partners.parquet"
    write_partners([partners((1, 2), [1, 2, 0]), partners(None, [2, 0, 1])], GALLERY, path)
    assert read_partners(path, (0.4, 0.8)) == read_partners(path, (1, 2))
    with pytest.raises(InputError, match=r"contains no partners of window \[0.4, 1.0\]"):
        read_partners(path, (0.4, 1.0))


def test_no_windows_are_a_file_of_no_partners(tmp_path: Path) -> None:
    """A run without families has no windows."""
    write_partners([], GALLERY, tmp_path / "partners.parquet")
    with pytest.raises(InputError, match="contains no partners of window null"):
        read_partners(tmp_path / "partners.parquet", None)
