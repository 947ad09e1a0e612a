"""The section that `make real` writes into a page, and that `make bench` keeps."""

from tests.real.page import StageCost, render, section_of, with_section

DATASETS = {"real_fiq": "FashionIQ", "real_cirr": "CIRR"}
COSTS = [
    StageCost("dedup@real_fiq", 12.34, 151.2),
    StageCost("dedup@real_cirr", 1.0, 99.6),
    StageCost("stages/dvc.yaml:train@real_fiq-clip", 1234.5, 1450.0),
    StageCost("submit@real_cirr-clip", 5.0, 700.0),
]


def test_a_stage_is_a_row_whatever_file_it_is_in() -> None:
    rows = [line for line in render(COSTS, DATASETS, "96x128", 21.0, 300.0).splitlines() if line.startswith("| ")]
    assert rows == [
        "| stage | FashionIQ: seconds | peak MB | CIRR: seconds | peak MB |",
        "| dedup | 12.3 | 151 | 1.0 | 100 |",
        "| train | 1,234.5 | 1,450 |  |  |",
        "| submit |  |  | 5.0 | 700 |",
    ]


def test_the_section_takes_the_place_of_its_own_and_is_kept_by_others() -> None:
    first, second = (render(COSTS, DATASETS, "8", minutes, 300.0) for minutes in (1.0, 2.0))
    page = with_section("# Benchmarks\n\n| a |\n", first)
    assert page.startswith("# Benchmarks\n\n| a |\n\n<!-- written by make real -->\n")
    assert section_of(page) == first
    assert section_of(with_section(page, second)) == second
    assert with_section(page, second).count("## The pipeline") == 1
    assert with_section("# Benchmarks\n\n| b |\n", section_of(page)).endswith(first)
    assert section_of("# Benchmarks\n") == ""
    assert with_section("# Benchmarks\n", "") == "# Benchmarks\n"
