"""The page of a run: complete, self-contained, made whatever became of the run."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import yaml

from rnnlab.figures.style import new_figure, save_png
from rnnlab.members import row as member_row
from rnnlab.report import describe, main, words, write_report
from rnnlab.store import Store
from tests.figures.looks import lipschitz, pitchforks, settling, spectra
from tests.figures.orbits import growing_circle

EVIL = '<script>alert("&")</script>'
VOID = {"meta", "img", "br", "link"}


class Page(HTMLParser):
    """What a browser would find; fails where tags do not match."""

    def __init__(self, path: Path) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[list[str]] = []
        self.text = ""
        self.feed(path.read_text(encoding="utf-8"))
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"script", "style"} & set(self.open):
            self.text += data
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.tags if name == tag]


def make_run(folder: Path, **status: object) -> Path:
    """A run directory as `train.py` leaves it, from formulas."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "seed": 3,
        "model": {"_target_": "rnnlab.model.RecurrentModel", "cell": {"_target_": "rnnlab.cells.LSTM"}},
        "task": {"_target_": "datamodules.Sine"},
        "trainer": {"max_epochs": 1000},
        "checkpoint": {"monitor": "train/mse", "mode": "min"},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    rows = [f"{epoch},{1 / epoch},{1e-3}" for epoch in range(1, 901)]
    (folder / "metrics.csv").write_text("\n".join(["epoch,train/mse,lr", *rows]) + "\n")
    orbits = growing_circle(np.array([0, 400, 800]))
    for epoch in (0, 400, 800):
        look = orbits.sel(epoch=epoch).drop_vars("epoch")
        Store(folder / "analysis.zarr").append("bifurcation", look, epoch=epoch)
    save_png(new_figure(1.0, 1.0), folder / "figures" / "bifurcation.png")
    if status:
        (folder / "status.json").write_text(json.dumps(status))
    return folder


def test_a_finished_run_has_all_its_sections(tmp_path: Path) -> None:
    run = make_run(
        tmp_path / "my run",
        state="finished",
        ended="2030-01-02T03:04:05",
        command="train.py model=lstm",
        versions={"torch": "2.6.0"},
        timings={"training": 90.0, "analysis": 10.0},
        baselines={"train/mse": 0.5},
    )
    path = write_report(run)
    assert path == run / "report.html"
    page = Page(path)
    for said in (
        "my run",
        "finished",
        "2030-01-02T03:04:05",
        "LSTM",
        "Sine",
        "900 of 1000",
        f"{1 / 900:.4g} at epoch 900",
    ):
        assert said in page.text, said
    for row in (
        ["ω = 1.0", "oscillation (quasi-periodic or long period)", "-0.448 to 0.648"],
        ["training", "1 min 30 s", "90 %"],
        ["command", "train.py model=lstm"],
        ["versions torch", "2.6.0"],
    ):
        assert row in page.rows, row
    assert "max_epochs: 1000" in page.text
    html = path.read_text(encoding="utf-8")
    assert html.count("Plotly.newPlot(") >= 2
    assert "scatter3d" in html
    assert "baseline 0.5" in html
    assert not [meta for meta in page.all("meta") if meta.get("http-equiv") == "refresh"]
    assert sorted(entry.name for entry in run.iterdir() if "report" in entry.name) == ["report.html"]


def test_the_page_is_self_contained(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", state="finished")
    page = Page(write_report(run))
    assert all("src" not in script for script in page.all("script"))
    assert not page.all("link")
    for _, attrs in page.tags:
        for key in ("src", "href"):
            assert (attrs.get(key) or "data:").startswith("data:")
    (image,) = page.all("img")
    data = (image["src"] or "").removeprefix("data:image/png;base64,")
    assert base64.b64decode(data) == (run / "figures" / "bifurcation.png").read_bytes()
    style = re.search(r"<style>.*?</style>", (run / "report.html").read_text(), re.S)
    assert style
    assert "url(" not in style[0]
    assert "prefers-color-scheme: dark" in style[0]
    # plotly once, not once a figure: it is nearly all of the page
    assert 4e6 < (run / "report.html").stat().st_size < 7e6


def test_all_text_is_escaped(tmp_path: Path) -> None:
    run = make_run(
        tmp_path / "run", state="failed", error=EVIL, command=EVIL, versions={EVIL: EVIL}, git=EVIL
    )
    (run / "config.yaml").write_text(yaml.safe_dump({"seed": EVIL, "model": EVIL, "task": {"name": EVIL}}))
    (run / "metrics.csv").write_text(f'epoch,"{EVIL.replace(chr(34), chr(34) * 2)}"\n1,2\n2,3\n')
    look = xr.Dataset(
        {"y": (("probe", "sample", "time", "observable"), np.zeros((1, 1, 3, 1)))}, coords={"probe": [EVIL]}
    )
    store = Store(run / "analysis.zarr")
    store.truncate(-1)
    store.append("bifurcation", look.assign(period=(("probe", "sample"), [[1]])), epoch=1)
    store.append("other", xr.Dataset({"v": ("label", [1.0, 2.0])}, coords={"label": [EVIL, "b"]}), epoch=1)
    save_png(new_figure(1.0, 1.0), run / "figures" / "<img onerror=x>.png")
    page = Page(write_report(run))
    assert page.text.count(EVIL) >= 7
    assert [EVIL, "fixed point y = 0", "0"] in page.rows
    assert "alert" not in "".join(str(attrs) for _, attrs in page.tags)
    # beside plotly itself: one script a figure, three figures
    assert len(page.all("script")) == 1 + 3
    assert len(page.all("img")) == 2


def test_a_running_run_renews_itself_and_a_killed_one_says_so(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", state="running")
    page = Page(write_report(run))
    assert {"http-equiv": "refresh", "content": "30"} in page.all("meta")
    assert "running" in page.text
    assert "killed" not in page.text
    looks = [path.relative_to(run) for path in run.glob("analysis.zarr/*/zarr.json")]
    for file in ("metrics.csv", "status.json", "config.yaml", *looks):
        os.utime(run / file, (1e9, 1e9))
    page = Page(write_report(run))
    assert not [meta for meta in page.all("meta") if meta.get("http-equiv") == "refresh"]
    assert "killed or still running: last number at 2001-09-09 01:46:40 UTC" in page.text
    assert ["ω = 1.0", "oscillation (quasi-periodic or long period)", "-0.448 to 0.648"] in page.rows


def test_a_failed_run_says_why(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", state="failed", error="loss is nan at epoch 7", ended="2030-01-01")
    page = Page(write_report(run))
    assert "failed" in page.text
    assert "loss is nan at epoch 7" in page.text


def test_a_row_cut_short_by_a_kill_is_not_believed(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    with (run / "metrics.csv").open("a") as file:
        file.write("901,0.0")  # of 0.00111
    page = Page(write_report(run))
    assert "900 of 1000" in page.text
    assert f"{1 / 900:.4g} at epoch 900" in page.text


@pytest.mark.parametrize(
    "missing", ["metrics.csv", "status.json", "config.yaml", "analysis.zarr", "figures", "most"]
)
def test_whatever_is_missing_the_page_shows_the_rest(tmp_path: Path, missing: str) -> None:
    run = make_run(tmp_path / "run", state="finished")
    gone = ["metrics.csv", "status.json", "analysis.zarr", "figures"] if missing == "most" else [missing]
    for name in gone:
        (run / name).rename(tmp_path / name)
    page = Page(write_report(run))
    assert ("ω = 1.0" in page.text) == ("analysis.zarr" not in gone)
    assert bool(page.all("img")) == ("figures" not in gone)
    assert ("max_epochs: 1000" in page.text) == ("config.yaml" not in gone)
    assert ("No epoch has ended yet" in page.text) == ("metrics.csv" in gone)


@pytest.mark.parametrize("broken", ["metrics.csv", "status.json", "config.yaml", "analysis.zarr"])
def test_what_is_broken_is_named_and_the_rest_is_shown(tmp_path: Path, broken: str) -> None:
    run = make_run(tmp_path / "run", state="finished")
    path = run / broken
    (path / "zarr.json" if path.is_dir() else path).write_bytes(b'{"\xff: [')
    page = Page(write_report(run))
    assert f"{broken} could not be read" in page.text
    assert ("ω = 1.0" in page.text) == (broken != "analysis.zarr")


def test_a_broken_chunk_costs_its_section_only(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", state="finished")
    Store(run / "analysis.zarr").append("lyapunov", xr.Dataset({"exponent": ("index", [0.1])}), epoch=1)
    for chunk in (run / "analysis.zarr" / "bifurcation" / "y" / "c").rglob("*"):
        if chunk.is_file():
            chunk.write_bytes(b"no chunk")
    page = Page(write_report(run))
    assert "bifurcation could not be shown" in page.text
    assert ["exponent", "epoch 1, index 1", "float64"] in page.rows


def test_an_unknown_analysis_has_its_section(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", state="finished")
    for epoch in (1, 2, 3):
        look = xr.Dataset(
            {
                "exponent": ("index", [0.5 * epoch, -1.0]),
                "stable": ((), epoch > 1),
                "cloud": (("point", "state"), np.zeros((50, 4))),
                "name": ((), "a"),
            }
        )
        Store(run / "analysis.zarr").append("lyapunov_spectrum", look, epoch=epoch)
    save_png(new_figure(1.0, 1.0), run / "figures" / "lyapunov_spectrum.png")
    page = Page(write_report(run))
    assert "Lyapunov spectrum" in page.text
    assert ["cloud", "epoch 3, point 50, state 4", "float64"] in page.rows
    html = (run / "report.html").read_text(encoding="utf-8").replace(r"\u002f", "/")
    for line in ("exponent/0", "exponent/1", "stable"):
        assert f'"name":"{line}"' in html
    assert '"name":"cloud' not in html
    captions = page.text.split("figures/")[1:]
    assert [caption.split(".png")[0] for caption in captions] == ["bifurcation", "lyapunov_spectrum"]


def test_both_modes_stand_side_by_side(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", state="finished")
    store = Store(run / "analysis.zarr")
    for epoch, radius in ((0, 0.0), (400, 2.0)):
        look = growing_circle(np.array([400]), birth=400 - 1000 * radius**2)
        store.append("bifurcation_generation", look.isel(epoch=0, drop=True), epoch=epoch)
    for name in ("3d", "modes", "generation", "generation_3d", "generation_pairs"):
        save_png(new_figure(1.0, 1.0), run / "figures" / f"bifurcation_{name}.png")
    page = Page(write_report(run))
    assert "could not be shown" not in page.text
    assert page.text.count("Bifurcation: input held, generation mode") == 1
    html = (run / "report.html").read_text(encoding="utf-8")
    before, told, left = re.split(r'<h3 class="mode">', html.partition('<div class="modes">')[2])
    assert before == "<div>"
    assert told.startswith("Input held</h3><p>Every input is held")
    assert left.startswith("Generation mode</h3><p>The network is fed its own output")
    left, _, after = left.partition("</section>")
    # the picture of both first, and each picture in the column of its mode
    pictures = [
        re.findall(r"figures/(\w+)\.png", part) for part in (html.partition('"modes">')[0], told, left)
    ]
    assert pictures == [
        ["bifurcation_modes"],
        ["bifurcation", "bifurcation_3d"],
        ["bifurcation_generation", "bifurcation_generation_3d", "bifurcation_generation_pairs"],
    ]
    assert "figures/" not in after
    for part, words_of_it in ((told, "-0.448 to 0.648"), (left, "-1.9 to 2.1")):
        assert words_of_it in part
        assert part.count("Plotly.newPlot(") == 1
    style = re.search(r"<style>.*?</style>", html, re.S)
    assert style
    assert "@media (max-width: 1000px) { .modes { grid-template-columns: minmax(0, 1fr); } }" in style[0]


def test_every_analysis_is_shown_in_its_way_in_either_mode(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", state="finished")
    store = Store(run / "analysis.zarr")
    for name, make in DYNAMICS.items():
        for epoch in (100, 900):
            look = make(np.array([epoch])).isel(epoch=0, drop=True)
            store.append(f"{name}_generation", look, epoch=epoch)
            if name == "lyapunov":
                store.append(name, look, epoch=epoch)
    store.append("speed_generation", xr.Dataset({"speed": ("probe", [0.5])}), epoch=1)
    page = Page(write_report(run))
    assert "could not be shown" not in page.text
    for title in (
        "Attractors: generation mode",
        "Fixed points: generation mode",
        "Lyapunov: input held, generation mode",
        "Contraction: generation mode",
        "Speed: generation mode",
    ):
        assert title in page.text, title
    assert "Bifurcation: " not in page.text
    assert ["u = 0.0", "9: 4 stable, 4 saddles, 1 unstable"] in [row[:2] for row in page.rows]
    assert ["speed", "epoch 1, probe 1", "float64"] in page.rows


def test_several_outputs_are_in_one_diagram(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", state="finished")
    one = growing_circle(np.array([400])).isel(epoch=0, drop=True)
    look = xr.concat([one, one.assign(y=one.y + 5)], "observable", data_vars=["y"])
    store = Store(run / "analysis.zarr")
    store.append("bifurcation_generation", look.assign_coords(observable=["a", "b"]), epoch=400)
    page = Page(write_report(run))
    html = (run / "report.html").read_text(encoding="utf-8")
    left = html.partition("Generation mode</h3>")[2].partition("</section>")[0]
    assert left.count("Plotly.newPlot(") == 1
    assert re.search(r'"label":"ω = 1.0 (→|\\u2192) b"', left.replace(r"\u03c9", "ω"))
    assert ["ω = 1.0, b", "fixed point y = 5.1", "5.1"] in page.rows


DYNAMICS = {"attractors": settling, "contraction": lipschitz, "fixed_points": pitchforks, "lyapunov": spectra}


def add_dynamics(run: Path) -> Path:
    """The four analyses, as the callbacks store them, at epochs where all of their kinds occur."""
    store = Store(run / "analysis.zarr")
    for name, make in DYNAMICS.items():
        dataset = make(np.array([100, 900, 1000]))
        for epoch in dataset.epoch.values:
            store.append(name, dataset.sel(epoch=epoch).drop_vars("epoch"), epoch=int(epoch))
    return run


def test_the_dynamics_have_figures_and_tables_of_the_last_look(tmp_path: Path) -> None:
    run = add_dynamics(make_run(tmp_path / "run", state="finished"))
    for name in ("fixed_points", "fixed_points_eigenvalues", "lyapunov_convergence"):
        save_png(new_figure(1.0, 1.0), run / "figures" / f"{name}.png")
    page = Page(write_report(run))
    assert "could not be shown" not in page.text
    for row in (
        ["u = 0.0", "9: 4 stable, 4 saddles, 1 unstable"],
        ["u = 0.0", "nearby orbits part: chaos", "0.06 ± 0.01, -0.14 ± 0.01, -0.34 ± 0.01", "1.43"],
        ["u = 0.1", "period 2", "30 % (20 to 40 %)", "0.815 to 1.01", "-0.2"],
        ["u = 0.1", "undecided", "10 %", "", ""],
        ["u = 0.2", "weighted", "1.843", "1.751", "0.1973", "not contracting in this norm"],
    ):
        assert row in [found[: len(row)] for found in page.rows], row
    assert ["u = 0.0", "0", "unstable node", "2", "1.5", "1e-16", "1e-16"] in page.rows
    assert "all 27 points" in page.text
    for said in (
        "At the last look all 3 probes are chaotic",
        "At the last look all 3 probes are multistable",
        "At the last look none of 3 probes is certified",
        "over 3 looks at epochs 100 to 1000",
    ):
        assert said in page.text, said
    # bifurcation, training, the four, and the plane of eigenvalues, which waits to be moved
    html = (run / "report.html").read_text(encoding="utf-8")
    assert html.count("Plotly.newPlot(") == 7
    assert html.count("Plotly.addFrames(") == 1
    assert "Plotly.animate(" not in html.split("Plotly.addFrames(")[-1]
    order = [caption.split(".png")[0] for caption in page.text.split("figures/")[1:]]
    assert order == ["bifurcation", "fixed_points", "fixed_points_eigenvalues", "lyapunov_convergence"]


@pytest.mark.parametrize("name", DYNAMICS)
@pytest.mark.parametrize("odd", ["older", "empty"])
def test_an_odd_dataset_costs_no_more_than_its_own_way(tmp_path: Path, name: str, odd: str) -> None:
    """Such as a version before left it: the page names the reason, and shows what is in it."""
    run = make_run(tmp_path / "run", state="finished")
    look = DYNAMICS[name](np.array([100])).isel(epoch=0, drop=True)
    if odd == "older":
        look = xr.Dataset({"number": ("probe", [0.5])}, coords={"probe": ["p"]})
    else:  # nothing was found
        look = look.isel({dim: slice(0) for dim in ("index", "attractor") if dim in look.dims})
        for key in ("exponent", "upper"):
            if key in look:
                look[key] = look[key] * np.nan
    Store(run / "analysis.zarr").append(name, look, epoch=1)
    page = Page(write_report(run))
    assert ("could not be shown in its own way" in page.text) == (odd == "older")
    assert (["number", "epoch 1, probe 1", "float64"] in page.rows) == (odd == "older")
    assert "ω = 1.0" in page.text
    assert "max_epochs: 1000" in page.text


def test_flows_are_told_from_maps(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", state="finished")
    look = pitchforks(np.array([1000])).isel(epoch=0, drop=True).assign_attrs(time="continuous")
    Store(run / "analysis.zarr").append("fixed_points", look, epoch=1)
    assert "Left of the imaginary axis deviations die out" in Page(write_report(run)).text


def test_fixed_points_are_described_with_what_speaks_for_the_list() -> None:
    look = pitchforks(np.array([500]), probes=2).isel(epoch=0, drop=True)
    look["not_converged"][1] = 7
    look = look.drop_vars("unseen")
    first, second = words.describe_fixed_points(look)
    assert first == (
        "u = 0.0",
        "1: 1 non-hyperbolic",
        "index sum 0: not 1, so points are missing or degenerate; all starts converged",
    )
    assert second == (
        "u = 0.1",
        "9: 4 stable, 4 saddles, 1 unstable",
        "index sum 1; 7 of 100 starts did not converge",
    )
    none = words.describe_fixed_points(look[["y", "kind"]].isel(index=slice(0)))
    assert none == [("u = 0.0", "none found", ""), ("u = 0.1", "none found", "")]
    assert words.list_fixed_points(look.isel(index=slice(0))) == []


def test_points_are_listed_with_their_least_stable_eigenvalue() -> None:
    look = xr.Dataset(
        {
            "y": (("index", "observable"), [[0.25, 1.0], [np.nan, np.nan]]),
            "kind": ("index", ["stable focus", ""]),
            "unstable": ("index", [0, -1]),
            "eigenvalue": (("index", "mode"), [[0.1 + 0j, -0.5 + 0.25j], [np.nan, np.nan]]),
        }
    )
    assert words.list_fixed_points(look) == [("", "0.25, 1", "stable focus", "0", "-0.5 + 0.25i", "", "")]
    flow = words.list_fixed_points(look.assign_attrs(time="continuous"))
    assert flow[0][4] == "0.1"


LEADING = [
    ([0.1, -1.0], [0.01, 0.01], "nearby orbits part: chaos"),
    ([0.02, -1.0], [0.01, 0.01], "neither to within three standard errors"),
    ([-0.02, -1.0], [0.01, 0.01], "neither to within three standard errors"),
    ([-0.1, -np.inf], [0.01, 0.0], "nearby orbits come together"),
    ([-np.inf, -np.inf], [0.0, 0.0], "nearby orbits come together"),
    ([np.nan, np.nan], [np.nan, np.nan], "not known: the orbits diverged"),
]


@pytest.mark.parametrize(("exponent", "error", "said"), LEADING)
def test_the_sign_of_an_exponent_counts_from_three_standard_errors_on(
    exponent: list[float], error: list[float], said: str
) -> None:
    look = xr.Dataset({"exponent": ("mode", exponent), "standard_error": ("mode", error)})
    assert words.describe_lyapunov(look)[0][1] == said


def test_a_long_spectrum_is_cut_and_says_so() -> None:
    ((_, _, numbers, _),) = words.describe_lyapunov(xr.Dataset({"exponent": ("mode", -np.arange(9.0))}))
    assert numbers == "-0, -1, -2, -3, and 5 more"


def test_attractors_have_the_range_of_every_observable() -> None:
    look = xr.Dataset(
        {
            "kind": ("sample", ["torus", "diverged", "diverged"]),
            "attractor_kind": ("attractor", ["torus", ""]),
            "y_min": (("attractor", "observable"), [[-1.0, 2.0], [np.nan, np.nan]]),
            "y_max": (("attractor", "observable"), [[1.0, 2.0], [np.nan, np.nan]]),
        }
    )
    assert words.describe_attractors(look) == [
        ("", "torus", "", "-1 to 1; 2", ""),
        ("", "diverged", "66.7 %", "", ""),
    ]


@pytest.mark.parametrize(
    ("upper", "sampled", "said"),
    [
        (0.99, 0.5, "contracting"),
        (1.0, 0.5, "not known"),
        (2.0, 1.0, "not contracting"),
        (np.nan, np.nan, "not known"),
        (np.inf, 0.5, "not known"),
    ],
)
def test_contraction_is_certain_only_below_1(upper: float, sampled: float, said: str) -> None:
    look = xr.Dataset({"upper": ("norm", [upper]), "sampled": ("norm", [sampled])})
    assert words.describe_contraction(look)[0][-1].startswith(said)


T = np.arange(100.0)
WORDS = [
    ([0 * T + 0.12], [True], [1], "fixed point y = 0.12", "0.12"),
    ([0 * T + 0.12, 0 * T + 0.120001], [True] * 2, [1, 1], "fixed point y = 0.12", "0.12"),
    ([0 * T - 1, 0 * T + 2], [True] * 2, [1, 1], "fixed points y = -1, 2", "-1 to 2"),
    ([T % 7, T % 7], [True] * 2, [7, 7], "period 7", "0 to 6"),
    ([np.sin(T)], [True], [0], "oscillation (quasi-periodic or long period)", "-1 to 1"),
    ([np.exp(-T / 100)], [False], [0], "not settled", "0.372 to 1"),
    (
        [0 * T + 1, T % 2, T % 2],
        [True] * 3,
        [1, 2, 2],
        "fixed point y = 1 (1 of 3 initial states); period 2 (2 of 3 initial states)",
        "0 to 1",
    ),
    ([np.where(T < 50, T, np.nan)], [False], [0], "diverges", "0 to 49"),
    ([np.inf + T], [True], [1], "diverges", "no finite value"),
]


@pytest.mark.parametrize(("orbits", "settled", "period", "words", "extent"), WORDS)
def test_what_an_orbit_does_is_said_in_words(
    orbits: list[np.ndarray], settled: list[bool], period: list[int], words: str, extent: str
) -> None:
    look = xr.Dataset(
        {
            "y": (("probe", "sample", "time", "observable"), np.stack(orbits)[None, :, :, None]),
            "settled": (("probe", "sample"), [settled]),
            "period": (("probe", "sample"), [period]),
        },
        coords={"probe": ["p"]},
    )
    assert describe(look) == [("p", words, extent)]


def test_every_observable_of_every_probe_is_described() -> None:
    y = np.arange(6.0).reshape(3, 1, 1, 2).repeat(4, axis=2)
    look = xr.Dataset({"y": (("probe", "sample", "time", "observable"), y)}).assign(
        settled=(("probe", "sample"), np.ones((3, 1), bool)),
        period=(("probe", "sample"), np.ones((3, 1), int)),
    )
    names = [name for name, _, _ in describe(look)]
    assert names == [f"probe {p}, y[{o}]" for p in range(3) for o in range(2)]
    assert [extent for _, _, extent in describe(look)] == list("012345")


def test_the_command_line_says_what_is_wrong_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run(tmp_path / "run", state="finished")
    assert main([str(run)]) == 0
    assert capsys.readouterr().out == f"{run / 'report.html'}\n"
    (tmp_path / "empty").mkdir()
    for wrong, said in (
        ("nowhere", "is not there"),
        ("empty", "holds no run"),
        ("run/config.yaml", "is not there"),
    ):
        assert main([str(tmp_path / wrong)]) == 1
        captured = capsys.readouterr()
        assert said in captured.err
        assert captured.err.count("\n") == 1
        assert not (tmp_path / "empty" / "report.html").exists()


def test_a_page_that_cannot_be_written_leaves_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(tmp_path / "run", state="finished")
    (run / "report.html").write_text("before")

    def full(self: Path, *args: object, **kwargs: object) -> int:
        self.touch()
        raise OSError(28, "No space left on device", str(self))

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="No space left"):
        write_report(run)
    assert (run / "report.html").read_text() == "before"
    assert sorted(entry.name for entry in run.iterdir() if "report" in entry.name) == ["report.html"]


def test_neither_torch_nor_matplotlib_is_loaded(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", state="finished")
    program = (
        "import sys; from rnnlab.report import write_report; write_report(sys.argv[1]);"
        "print(*({'torch', 'matplotlib', 'hydra', 'pytorch_lightning'} & set(sys.modules)), 'done')"
    )
    root = Path(__file__).parents[1]
    output = subprocess.run(
        [sys.executable, "-c", program, str(run)], cwd=root, capture_output=True, text=True, check=True
    )
    assert output.stdout.split() == ["done"]


def make_ensemble(folder: Path, members: int = 14) -> Path:
    """A run of an ensemble: member i is at gain w_i, and its loss falls the faster the higher i is."""
    run = make_run(folder, state="finished")
    config = yaml.safe_load((run / "config.yaml").read_text())
    (run / "config.yaml").write_text(yaml.safe_dump(config | {"ensemble": members}))
    store = Store(run / "analysis.zarr")
    store.truncate(-1)
    for epoch in (0, 400, 800):
        for name, make in (("fixed_points", pitchforks), ("lyapunov", spectra), ("contraction", lipschitz)):
            look = make(np.array([epoch]), probes=members).isel(epoch=0, drop=True)
            one = look.rename(probe="member").drop_vars("member").expand_dims(probe=["silence"])
            store.append(name, one, epoch=epoch)
        loss = np.exp(-np.arange(members) * epoch / 1000)
        alive = np.arange(members) < members - 1  # the last has stopped
        names = ["train/loss", "alive"]
        store.append("members", member_row({"train/loss": loss, "alive": alive}, names), epoch=epoch)
    return run


def test_the_page_of_an_ensemble_shows_all_members_and_the_best(tmp_path: Path) -> None:
    run = make_ensemble(tmp_path / "run")
    page = Page(write_report(run))
    assert "could not" not in page.text
    assert re.search(r"ensemble\s*14 members", page.text)
    assert re.search(r"seed\s*3 to 16", page.text)
    assert "best median train/mse" in page.text
    assert "13 of 14 members are training, over 3 looks at epochs 0 to 800" in page.text
    assert "Member 0 has the first seed" in page.text
    # the member that stopped has the lowest loss of all and is not the best
    assert page.text.count("Member 12 by itself, whose training loss is lowest") == 3
    table = [row for row in page.rows if row[0].isdigit() and len(row) == 3]
    assert [int(row[0]) for row in table] == [*range(12, -1, -1), 13]
    assert table[0] == ["12", f"{np.exp(-9.6):.4g}", ""]
    assert table[-1][2] == "stopped"
    assert "the other 2 members" in page.text
    w = 0.5 + (1 + 0.2 * np.arange(14)) * 0.8
    assert (w > 1).all()
    loss = np.median(np.exp(-np.arange(14) * 0.8))
    which = ", ".join(map(str, range(12))) + ", ..."
    kind = "4 stable, 4 saddles, 1 unstable"
    assert ["silence", kind, "14 (100 %)", which, f"{loss:.4g}"] in page.rows
    # what stands below is of that member alone
    assert [
        "silence",
        "9: 4 stable, 4 saddles, 1 unstable",
        "index sum 1; all starts converged; chance that a new start finds a new point 1 %",
    ] in page.rows
    chaos = 0.2 * (w - 1.2) > 0.03
    rows = [row for row in page.rows if row[:2] == ["silence", "chaos"]]
    assert rows == [["silence", "chaos", f"{chaos.sum()} ({100 * chaos.mean():.0f} %)", *rows[0][3:]]]


def test_an_ensemble_without_a_record_of_its_members_is_shown_by_the_first(tmp_path: Path) -> None:
    run = make_ensemble(tmp_path / "run")
    shutil.rmtree(run / "analysis.zarr" / "members")
    page = Page(write_report(run))
    assert page.text.count("Member 0 by itself, the first") == 3
    assert "members are training" not in page.text


def test_looks_at_members_that_tell_nothing_of_each_are_still_shown(tmp_path: Path) -> None:
    run = make_ensemble(tmp_path / "run")
    look = xr.Dataset({"cloud": (("member", "point", "state"), np.zeros((14, 3, 2)))})
    Store(run / "analysis.zarr").append("clouds", look, epoch=0)
    page = Page(write_report(run))
    assert "a figure of members needs a number or a word for each: there is cloud." in page.text
    assert ["cloud", "epoch 1, point 3, state 2", "float64"] in page.rows
