"""The pure parts of the benchmarks: statistics, verdicts, tables and the plot; no server runs."""

from __future__ import annotations

import doctest
import xml.etree.ElementTree as ElementTree

import pytest

from benchmarks import bars, figures, plot, report, system_calls
from benchmarks.figures import OURS, Figures, Sample, Spread
from benchmarks.systems import Guarantees

SVG = "{http://www.w3.org/2000/svg}"


def samples(figure: str, place: str, *rounds: tuple[str, float], unit: str = "ms") -> list[Sample]:
    """Our run and a peer's beside it, pair by pair, in one figure."""
    return [
        Sample("Question", figure, system, place, value, unit, 1 + number // 2)
        for number, (system, value) in enumerate(rounds)
    ]


def verdict(figure: str, all_samples: list[Sample]) -> bars.Judged:
    return next(bar for bar in bars.judge(Figures(all_samples)) if bar.figure == figure)


@pytest.mark.parametrize("module", [figures, report, system_calls])
def test_the_examples_in_the_docstrings_are_true(module: object) -> None:
    assert doctest.testmod(module).failed == 0  # type: ignore[arg-type]


def test_a_ratio_compares_only_runs_that_followed_each_other() -> None:
    found = Figures(
        samples("drain", "disk", (OURS, 10.0), ("Huey", 5.0), (OURS, 30.0), ("Celery", 3.0),
                (OURS, 40.0), ("Huey", 10.0))
    )  # fmt: skip
    assert found.ratio("drain", "disk", "Huey") == Spread(3.0, 2.0, 4.0, 2)
    assert found.ratio("drain", "disk", "Celery") == Spread(10.0, 10.0, 10.0, 1)
    assert found.ratio("drain", "tmpfs", "Huey") is None


def test_what_was_measured_without_a_peer_beside_it_has_no_ratio() -> None:
    alone = [Sample("Memory", "memory", name, "tmpfs", 50.0, "MB") for name in (OURS, "Huey")]
    assert Figures(alone).ratio("memory", "tmpfs", "Huey") is None


def test_a_rate_leaves_out_the_first_and_the_last_tenth() -> None:
    slow_start = [float(n) for n in range(100)]
    steady = [100.0 + n / 100 for n in range(900)]
    assert figures.middle_rate([*slow_start, *steady]) == pytest.approx(100.0)


def test_an_order_without_overlap_is_told_from_one_with_it() -> None:
    in_order = [(float(n), n + 0.5) for n in range(10)]
    assert figures.inversions(in_order) == (0, 0)
    overlapping = [(0.2, 1.0), (0.1, 1.0)]
    assert figures.inversions(overlapping) == (1, 0)
    apart = [(2.0, 3.0), (0.0, 1.0)]
    assert figures.inversions(apart) == (1, 1)
    assert figures.displacement([2.0, 0.0, 1.0]) == 2


def test_a_bar_is_met_only_if_every_part_of_it_is() -> None:
    drain = "drain of no-op jobs, tmpfs"
    beside = (OURS, 16.0), ("Huey on Redis", 10.0), (OURS, 16.0), ("bare uWSGI spooler", 30.0)
    judged = verdict(drain, samples("drain", "tmpfs", *beside))
    assert judged.met is True
    assert judged.measured == "1.6 times Huey on Redis, 0.533 times bare uWSGI spooler"
    beside = (*beside[:3], ("bare uWSGI spooler", 40.0))
    assert verdict(drain, samples("drain", "tmpfs", *beside)).met is False


def test_what_was_not_measured_is_neither_met_nor_missed() -> None:
    assert {(bar.measured, bar.met) for bar in bars.judge(Figures())} == {("not measured", None)}


def test_we_are_compared_with_the_best_peer() -> None:
    found = samples(
        "start latency, p50", "disk",
        (OURS, 0.4), ("Huey on Redis", 0.8), (OURS, 0.5), ("bare uWSGI spooler", 0.25),
    )  # fmt: skip
    all_peers = verdict("start latency, beside peers", found)
    assert (all_peers.measured, all_peers.met) == ("2 times bare uWSGI spooler on disk", False)
    with_status = verdict("start latency, beside peers that keep a status or result", found)
    assert (with_status.measured, with_status.met) == ("0.5 times Huey on Redis on disk", True)


def test_a_job_that_starts_before_its_time_misses_the_bar() -> None:
    found = [
        Sample("Schedule", figure, OURS, "disk", value, "ms")
        for figure, value in (("after its time, the earliest", -0.1), ("after its time, p99", 3.0))
    ]
    assert verdict("due job, idle pool", found).met is False


def test_memory_that_grows_while_idle_misses_the_bar() -> None:
    idle = "idle CPU, 1,000,000 scheduled, 4 spoolers, frequency 1"

    def found(after: float) -> list[Sample]:
        measured = {"idle, many scheduled": 0.4, "memory before": 50.0, "memory after": after}
        return [Sample("Idle", each, OURS, "tmpfs", v, "") for each, v in measured.items()]

    assert verdict(idle, found(51.0)).met is True
    assert verdict(idle, found(60.0)).met is False


def test_no_two_bars_have_the_same_name() -> None:
    names = [bar.figure for bar in bars.BARS]
    assert len(names) == len(set(names))


def test_the_page_holds_verdicts_promises_figures_and_what_failed() -> None:
    found = Figures(samples("drain", "disk", (OURS, 9500.0), ("Huey", 4750.0), unit="jobs/s"))
    page = report.whole(
        found,
        [bars.Judged("a figure", "a bar", "5 ms", False)],
        [report.Chapter("Question", "How many?", "By counting.")],
        {"kernel": "Linux 6"},
        {OURS: Guarantees("after", "run again", "kept", "state", "dead", "yes", "yes")},
        ["Question, RQ on disk: TimeoutError()"],
        when="2026-01-01",
        short=True,
    )
    assert "| a figure | a bar | 5 ms | (no) |" in page
    assert "| drain, jobs/s | disk | ours / theirs, disk |" in page
    assert "| Huey | 4,750 | 2 |" in page
    assert f"| {OURS} | after | run again | kept | state | dead | yes | yes | no |" in page
    assert "the short form" in page
    assert "- Question, RQ on disk: TimeoutError()" in page


def test_only_a_whole_sitting_says_yes_or_no_without_reserve() -> None:
    judged = [bars.Judged("a figure", "a bar", "5 ms", True)]
    assert report.verdicts(judged, report.WORDS).endswith("| yes |")
    assert report.verdicts(judged, report.SHORT_WORDS).endswith("| (yes) |")


def test_a_question_that_was_not_asked_has_no_chapter() -> None:
    assert report.measured(Figures(), report.Chapter("Question", "How many?", "So.")) == []


def test_figures_of_ours_alone_share_one_table() -> None:
    found = Figures([
        Sample("Backlog", "urgent job, p99", OURS, "tmpfs", 20.0, "ms"),
        Sample("Backlog", "urgent job, p99", OURS, "disk", 25.0, "ms"),
        Sample("Backlog", "out of order", OURS, "disk", 0.0, "jobs"),
    ])  # fmt: skip
    text = "\n".join(report.measured(found, report.Chapter("Backlog", "Who?", "So.")))
    assert f"| {OURS} | tmpfs | disk |" in text
    assert "| urgent job, p99, ms | 20 | 25 |" in text
    assert "| out of order, jobs |  | 0 |" in text


def test_the_plot_is_an_svg_without_a_background_that_escapes_its_words() -> None:
    panel = plot.Panel("Drain <& more>", "jobs/s", [(OURS, 100.0), ("A & B", 25.0)])
    picture = ElementTree.fromstring(plot.draw([panel]))
    assert picture.tag == f"{SVG}svg"
    widths = [float(bar.attrib["width"]) for bar in picture.iter(f"{SVG}rect")]
    assert widths == [plot.LONGEST, plot.LONGEST / 4]
    words = [text.text for text in picture.iter(f"{SVG}text")]
    assert words == ["Drain <& more>", OURS, "100 jobs/s", "A & B", "25 jobs/s"]


def test_the_plot_shows_only_what_was_measured() -> None:
    found = Figures(samples("drain", "disk", (OURS, 10.0), ("Huey", 5.0)))
    wanted = [("Drain", "drain", "disk", "jobs/s"), ("Latency", "latency", "disk", "ms")]
    assert plot.panels(found, wanted) == [
        plot.Panel("Drain", "jobs/s", [(OURS, 10.0), ("Huey", 5.0)])
    ]
