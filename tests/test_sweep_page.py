"""The page of a sweep, as it is read and as it is used."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import pytest

from rnnlab.figures.style import new_figure, save_png
from rnnlab.ledger import Ledger, now
from rnnlab.report import write_report, write_sweep_report
from tests.browser import Browser
from tests.browser import browser as browser  # a fixture
from tests.test_report import EVIL, Page
from tests.test_sweeps import make_job

BEST = {  # of each model and length, by seed
    ("LSTM", 50): (0.9, 0.125, 0.5),
    ("LSTM", 100): (0.3, None, 0.25),
    ("Orthogonal", 50): (1.5, 10.0, 9.0),
    ("Orthogonal", 100): (0.75, 0.8, 0.7),
}


def make_sweep(root: Path) -> Path:
    """Twelve runs with pages and logs: run 4 has failed, run 0 has no bifurcation diagram."""
    jobs = [(*key, seed, best) for key, found in BEST.items() for seed, best in enumerate(found, 1)]
    for i, (cell, length, seed, best) in enumerate(jobs):
        run = make_job(
            root / f"run_{i}",
            None if best is None else [best / 2, best],
            cell=cell,
            length=length,
            seed=seed,
            state="failed" if best is None else "finished",
        )
        (run / "report.html").write_text(f"<title>page {i}</title>")
        (run / "log.txt").write_text(f"log {i}")
        for name in ("bifurcation", "lyapunov") if i else ("lyapunov",):
            save_png(new_figure(1.0, 0.5), run / "figures" / f"{name}.png")
    return root


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    return write_sweep_report(make_sweep(folder / "a sweep #1"), out=folder / "page")


@pytest.fixture
def page(made: Path, browser: Browser) -> Iterator[Browser]:
    """The page as it is when it is opened for the first time."""
    browser.open(made)
    yield browser
    browser.driver.execute_script("sessionStorage.clear()")
    browser.errors()


def test_heads_sort_numbers_as_numbers_and_back(page: Browser) -> None:
    values = sorted(best for found in BEST.values() for best in found if best is not None)
    head = page.one("#runs th:nth-child(6)")
    assert head.text.strip().startswith("best")
    before = page.column("#runs", 6)
    for order, expected in (("ascending", values), ("descending", values[::-1])):
        head.find_element("css selector", "button").click()
        assert head.get_attribute("aria-sort") == order
        assert page.column("#runs", 6) == [*(f"{value:.4g}" for value in expected), ""]  # 9 before 10
        arrow = "getComputedStyle(arguments[0], '::after').content"
        shown = page.driver.execute_script(f"return {arrow}", head.find_element("css selector", "button"))
        assert ("▲" if order == "ascending" else "▼") in shown
    assert page.column("#runs", 6) != before
    page.one("#runs th:nth-child(1) button").send_keys("\n")  # by the keyboard, of the focused button
    assert page.column("#runs", 1) == [f"run_{i}" for i in range(12)]  # 2 before 10
    assert head.get_attribute("aria-sort") is None
    assert page.errors() == []


def test_filters_leave_what_was_asked_for(page: Browser) -> None:
    assert len(page.column("#runs", 1)) == 12
    form = page.one("form.filter")
    assert form.find_element("css selector", "output").text == "12 of 12 runs"
    length = form.find_element("css selector", "select[name='one length']")
    length.send_keys("100")
    assert page.column("#runs", 1) == [f"run_{i}" for i in (3, 4, 5, 9, 10, 11)]
    form.find_element("css selector", "select[name='one model']").send_keys("LSTM")
    assert page.column("#runs", 1) == ["run_3", "run_4", "run_5"]
    form.find_element("css selector", "select[name='one state']").send_keys("failed")
    assert page.column("#runs", 1) == ["run_4"]
    assert form.find_element("css selector", "output").text == "1 of 12 runs"
    form.find_element("css selector", "button").click()
    page.wait(lambda: len(page.column("#runs", 1)) == 12)
    form.find_element("css selector", "input[name=words]").send_keys("ORTHO 9")  # every word, in any column
    assert page.column("#runs", 1) == ["run_8", "run_9"]
    assert page.errors() == []


def test_what_was_chosen_is_there_after_the_page_has_renewed_itself(page: Browser) -> None:
    page.one("#runs th:nth-child(6) button").click()
    page.one("form.filter select[name='one model']").send_keys("LSTM")
    page.one("select[name=picture]").send_keys("lyapunov")
    before = page.column("#runs", 6)
    page.driver.refresh()
    assert page.column("#runs", 6) == before == ["0.125", "0.25", "0.3", "0.5", "0.9", ""]
    assert page.one("select[name=picture]").get_attribute("value") == "lyapunov.png"
    assert page.errors() == []


def test_a_row_opens_to_show_its_seeds_and_leads_to_their_pages(page: Browser) -> None:
    page.all("details > summary")[0].click()
    assert page.column("#summary", 3) == ["0.5083 ± 0.39", "0.275 ± 0.035", "6.833 ± 4.6", "0.75 ± 0.05"]
    seeds = page.one("#summary > tbody > tr:nth-child(2) details")
    assert seeds.text == "2 of 3"
    seeds.find_element("css selector", "summary").click()
    assert seeds.text.split("\n") == ["2 of 3", "seed 1 0.3", "seed 2 failed", "seed 3 0.25"]
    seeds.find_elements("css selector", "a")[2].click()
    page.wait(lambda: page.driver.title == "page 5")
    page.driver.back()
    page.wait(lambda: page.all("#runs"))
    page.all("#runs a[href$='log.txt']")[3].click()
    page.wait(lambda: page.driver.find_element("css selector", "body").text == "log 3")
    assert page.errors() == []


def test_pictures_are_those_of_the_median_seeds_and_can_be_changed(page: Browser) -> None:
    heads = [head.text for head in page.all(".gallery thead th")]
    assert heads == ["model = LSTM", "model = Orthogonal"]
    assert [head.text for head in page.all(".gallery tbody th")] == ["length = 50", "length = 100"]
    captions = [caption.text for caption in page.all(".gallery td > figure figcaption")]
    assert captions == ["seed 3, 0.5", "seed 3, 9", "seed 3, 0.25", "seed 1, 0.75"]
    first = page.all(".gallery td")[1]
    assert [figure.is_displayed() for figure in first.find_elements("css selector", "figure")] == [
        True,
        False,
        False,
    ]
    first.find_element("css selector", "summary").click()
    figures = first.find_elements("css selector", "figure")
    assert [figure.get_attribute("data-run").rpartition("/")[2] for figure in figures] == [
        "run_2",
        "run_1",
        "run_0",
    ]
    images = [figure.find_element("css selector", "img") for figure in figures]
    assert [image.is_displayed() for image in images] == [True, True, False]
    assert figures[2].text.split("\n")[0] == "no bifurcation.png"
    page.one("select[name=picture]").send_keys("lyapunov")
    assert [image.is_displayed() for image in images] == [True, True, True]
    assert images[2].get_attribute("src").endswith("run_0/figures/lyapunov.png")
    for image in images:
        page.driver.execute_script("arguments[0].scrollIntoView()", image)
        page.wait(lambda image=image: image.get_property("naturalWidth") == 150)
    images[1].click()
    page.wait(lambda: page.driver.title == "page 1")
    assert page.errors() == []


def test_all_runs_are_drawn_at_a_glance(page: Browser) -> None:
    names = page.wait(lambda: [axis.text for axis in page.all(".parcoords .axis-title")])
    assert names == ["model", "length", "val/accuracy"]
    shown = {label.text for label in page.all(".parcoords .tick text")}
    assert {"LSTM", "Orthogonal", "50", "100", "no value"} <= shown
    assert page.errors() == []


def test_the_page_is_complete_without_a_script(made: Path) -> None:
    page = Page(made)
    assert all("hidden" in form for form in page.all("form"))  # of no use without one
    assert [row[0] for row in page.rows if row and row[0].startswith("run_")] == [
        f"run_{i}" for i in range(12)
    ]
    assert not page.all("button") or all(b["type"] == "reset" for b in page.all("button"))
    for image in page.all("img"):
        source = image["src"]
        assert source is not None
        if source.startswith("data:"):
            continue
        assert image["loading"] == "lazy"
        assert "#" not in source  # which begins a fragment
        assert "hidden" in image or (made.parent / unquote(source)).is_file()
    assert not any(a["href"].startswith(("http", "/")) for a in page.all("a"))


def test_shares_of_the_variance_are_told_or_why_not(made: Path, tmp_path: Path) -> None:
    page = Page(made)
    assert "over 11 runs (1 without a value is left out)" in page.text
    shares = {row[0]: row for row in page.rows if row[0] in ("model", "length", "seeds", "rest")}
    assert shares["model"][4].startswith("more than chance")
    make_job(tmp_path / "s" / "0", [0.5])
    make_job(tmp_path / "s" / "1", [0.6], length=100)
    page = Page(write_sweep_report(tmp_path / "s"))
    assert "Undecided: 2 runs are too few to tell effects from chance." in page.text


def renewals(page: Page) -> list[str | None]:
    return [meta["content"] for meta in page.all("meta") if meta.get("http-equiv") == "refresh"]


def test_how_far_the_sweep_is(tmp_path: Path) -> None:
    root = tmp_path / "s"
    make_job(root / "run_0", [0.5])
    killed = make_job(root / "run_1", [0.5], seed=2, state="running")
    for file in killed.iterdir():
        os.utime(file, (1e9, 1e9))
    ledger = Ledger(root)
    ledger.write(0, run="run_0", overrides=[], state="skipped", error=None)
    killed_ones = {"overrides": [], "state": "running", "error": None, "started": "2020-01-01T00:00:00+00:00"}
    ledger.write(1, run="run_1", **killed_ones)
    ledger.write(2, run="left nothing", **killed_ones)
    page = Page(write_sweep_report(root))
    assert "3 have begun, 1 finished before, 2 unfinished." in page.text
    assert renewals(page) == []
    ledger.write(3, run="soon", overrides=[], state="running", error=None, started=now())
    page = Page(write_sweep_report(root))
    assert "4 have begun, 1 finished before, 1 running, 2 unfinished." in page.text
    assert "It renews itself while the sweep is going on." in page.text
    assert renewals(page) == ["30"]


def test_each_error_is_told_once_with_the_output_of_its_runs(tmp_path: Path) -> None:
    root = tmp_path / "s"
    make_job(root / "0", [0.5])
    for i, (error, values) in enumerate([(EVIL, [0.5]), ("ValueError: b", None), (EVIL, None)], 1):
        run = make_job(root / str(i), values, seed=i + 1, state="failed")
        status = json.loads((run / "status.json").read_text())
        (run / "status.json").write_text(json.dumps(status | {"error": error}))
        (run / "log.txt").write_text("why")
    page = Page(write_sweep_report(root))
    assert f"2 runs (1 before the first epoch): {EVIL}1 log.txt3 log.txt" in page.text
    assert "1 run before the first epoch: ValueError: b2 log.txt" in page.text
    links = [a["href"] for a in page.all("a")]
    assert links[:3] == ["1/log.txt", "3/log.txt", "2/log.txt"]


def test_a_search_is_listed_from_good_to_bad(tmp_path: Path) -> None:
    """As many combinations as runs: no table, the first open, ranges to choose by."""
    root = tmp_path / "s"
    values = [math.nan if i == 3 else ((7 * i) % 30 + 1) / 32 for i in range(30)]
    for i, value in enumerate(values):
        optim = {"optimizer": {"lr": 0.001 * 1.2**i}}
        run = make_job(root / str(i), [value], optim=optim, cell=("LSTM", "Orthogonal")[i % 2])
        save_png(new_figure(0.2, 0.2), run / "figures" / "bifurcation.png")
    page = Page(write_sweep_report(root))
    shown = [figure["data-run"] for figure in page.all("figure") if "data-run" in figure]
    there = [i for i in range(30) if i != 3]
    assert shown == [*(str(i) for i in sorted(there, key=lambda i: -values[i])), "3"]
    assert "6 more" in page.text
    assert "The best 12 of 29 panels are drawn." in page.text
    ranges = [field["name"] for field in page.all("input") if field.get("type") == "number"]
    assert ranges == ["lowest lr", "highest lr"]


def test_runs_without_pictures_say_so(tmp_path: Path) -> None:
    make_job(tmp_path / "s" / "0", [0.5])
    page = Page(write_sweep_report(tmp_path / "s"))
    assert "No run has left a picture yet" in page.text
    assert "The runs have the same parameters." in page.text


def test_the_jobs_of_a_sweep_share_what_draws_their_plots(tmp_path: Path, browser: Browser) -> None:
    root, plots = tmp_path / "a sweep #1", ".js-plotly-plot .main-svg"
    for i in range(2):
        Ledger(root).write(i, run=str(i), state="finished", overrides=[])
        page = write_report(make_job(root / str(i), [0.5, 0.25]))
        assert page.stat().st_size < 1e5
    (library,) = root.glob("plotly-*.min.js")
    assert library.stat().st_size > 1e6
    browser.open(page)
    assert browser.wait(lambda: browser.all(plots))
    assert not browser.one(".lacks").is_displayed()
    assert browser.errors() == []
    alone = root / "1"
    alone = alone.rename(tmp_path / "alone")  # where no sweep is above it
    library.unlink()
    browser.open(alone / "report.html")
    assert browser.one(".lacks").is_displayed()
    browser.errors()
    assert write_report(alone).stat().st_size > 1e6
    browser.open(alone / "report.html")
    assert browser.wait(lambda: browser.all(plots))
    assert browser.all(".lacks") == []
    assert browser.errors() == []
