"""Recompute the atlas: `python -m rnnlab.studies.gru_atlas`."""

from __future__ import annotations

import time
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from rnnlab.analysis import certified_fixed_points
from rnnlab.analysis.topology import topology
from rnnlab.figures import style
from rnnlab.studies import program
from rnnlab.studies.gru_atlas import pictures, table
from rnnlab.studies.gru_atlas.cases import cases, portraits


def main(argv: list[str] | None = None) -> Path:
    """Write the table of the 36 cases, and draw Fig. 2 to 7 and 9."""
    parser = program.parser("gru_atlas", "All phase portraits and fixed points of Jordan et al. (2019).")
    parser.add_argument("--tables", action="store_true", help="draw nothing")
    options = parser.parse_args(argv)
    known, near = cases(), table.corrected()

    clock = time.perf_counter()
    for case in tqdm(known.values(), desc="certified"):
        certified_fixed_points(case.field())
    print(f"certified fixed points of {len(known)} cases: {time.perf_counter() - clock:.1f} s")

    clock = time.perf_counter()
    found = {name: topology(case.field()) for name, case in tqdm(known.items(), desc="topology")}
    rows = pd.DataFrame([table.row(case, found[name], near.get(name)) for name, case in known.items()])
    program.save_table(rows, options.out / "cases.csv")
    (options.out / "cases.md").write_text(program.markdown(rows) + "\n", encoding="utf-8")
    print(f"topology: {time.perf_counter() - clock:.1f} s; table in {options.out / 'cases.md'}")
    if options.tables:
        return options.out

    clock = time.perf_counter()
    for name, panels in tqdm(pictures.FIGURES.items(), desc="figures 2 to 7"):
        style.save_png(pictures.figure(panels, portraits()), options.out / f"figure_{name}.png")
    seen = {}
    for name, case in tqdm(known.items(), desc="figure 9"):
        title = f"({name}) {len(found[name].index)} points"
        seen[title] = pictures.portrait(case.field(), manifolds=False, found=found[name])
    for number, page in enumerate(pictures.pages(seen), 1):
        style.save_png(page, options.out / f"figure_9_{number}.png")
    print(f"figures: {time.perf_counter() - clock:.1f} s")
    return options.out


if __name__ == "__main__":
    program.run(main)
