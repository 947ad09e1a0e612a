"""report: one page that shows the results for a data set and family, and what they were made from."""

from spn4cir.report.page import write_page
from stages.common import DATA, Job, run
from stages.run_results import collect


def main(job: Job) -> None:
    """Writes `data/report/<dataset>/<family>.html`."""
    out = DATA / "report" / job.dataset / f"{job.family}.html"
    print(f"{out}: {write_page(collect(job), job.params.report, out) / 1e6:.1f} MB")


if __name__ == "__main__":
    run(main)
