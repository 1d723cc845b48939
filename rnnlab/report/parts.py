"""The parts that pages are made of, as HTML."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from rnnlab import ledger


def document(
    title: str, body: Sequence[str], *, renewing: bool = False, style: str = "", folder: Path | None = None
) -> str:
    """A whole page that opens offline; plotly is in it once, where a part draws with it, or beside it.

    Args:
        title: What stands on the browser's tab.
        body: The parts.
        renewing: Whether it loads itself again every half minute.
        style: Of this page, beyond what all have.
        folder: A directory above that of the page in which several pages share plotly: 5 MB.
    """
    refresh = '<meta http-equiv="refresh" content="30">' if renewing else ""
    scripts = ""
    if any("Plotly.newPlot" in part for part in body):
        scripts = _plotly(folder)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"{refresh}<title>{text(title)}</title><style>{STYLE}{style}</style>{scripts}</head>"
        f"<body><main>{LACKS_PLOTS if folder else ''}{''.join(body)}</main></body></html>\n"
    )


def _plotly(folder: Path | None) -> str:
    """The script that draws, as a file of `folder` where it can be kept there."""
    from plotly.offline import get_plotlyjs, get_plotlyjs_version

    if folder is not None:
        path = folder / f"plotly-{get_plotlyjs_version()}.min.js"
        with suppress(OSError):
            if not path.is_file():
                publish(get_plotlyjs(), path)
            # a page that was taken away from there says what it lacks
            lost = "document.documentElement.classList.add('lacks-plots')"
            return f'<script src="../{path.name}" onerror="{lost}"></script>'
    return f"<script>{get_plotlyjs()}</script>"


def publish(content: str, path: Path) -> Path:
    """Write a page in one move: a browser finds the old one or the new one."""
    ledger.publish(path, content)
    return path


def section(title: str, content: str) -> str:
    """A part of the page with a heading."""
    return f"<section><h2>{text(title)}</h2>{content}</section>"


class Cell(NamedTuple):
    """What stands in a table, and what it is sorted by."""

    shown: Any
    key: Any


def table(head: tuple[str, ...], rows: Iterable[tuple[Any, ...]], *, name: str = "") -> str:
    """A table that scrolls where it is too wide; no heads, no header. With a name a script can sort it."""
    top = "".join(f"<th>{text(cell)}</th>" for cell in head)
    top = f"<thead><tr>{top}</tr></thead>" if any(head) else ""
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    kind = f' class="sortable" id="{text(name)}"' if name else ""
    return f'<div class="wide"><table{kind}>{top}<tbody>{body}</tbody></table></div>'


def _cell(cell: Any) -> str:
    if not isinstance(cell, Cell):
        return f"<td>{text(cell)}</td>"
    key = "" if cell.key is None or cell.key != cell.key else cell.key  # NaN
    return f'<td data-key="{text(key)}">{text(cell.shown)}</td>'


def fold(title: str, content: str, length: int, most: int = 24) -> str:
    """Something long to open, something short as it is."""
    if length <= most:
        return content
    return f"<details><summary>{text(title)}</summary>{content}</details>"


def images(paths: Iterable[Path]) -> str:
    """Pictures within the page."""
    parts = []
    for path in paths:
        data = base64.b64encode(path.read_bytes()).decode()
        name = text(path.name)
        parts.append(
            f'<figure><img alt="{name}" src="data:image/png;base64,{data}">'
            f"<figcaption>figures/{name}</figcaption></figure>"
        )
    return "".join(parts)


def plotly(figure: Any) -> str:
    """A plotly figure; the page loads plotly once."""
    config = {"displaylogo": False, "responsive": True}
    page = figure.to_html(full_html=False, include_plotlyjs=False, config=config, auto_play=False)
    return f'<div class="plot">{page}</div>'


class Html(str):
    """Text that is HTML already."""


def text(value: Any) -> str:
    """Text as HTML."""
    return value if isinstance(value, Html) else html.escape(str(value))


def link(target: str, label: str) -> Html:
    """A link to a file, by its path from the page."""
    return Html(f'<a href="{text(quote(target))}">{text(label)}</a>')


def clock(seconds: float) -> str:
    """A time, from seconds since 1970."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def duration(seconds: float) -> str:
    """A span of seconds, readable."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


LACKS_PLOTS = (
    '<p class="note lacks">The plots of this page are drawn by a script in the directory of its sweep, which '
    "is not above it any more. <code>python -m rnnlab.report RUN_DIR</code> makes the page whole.</p>"
)
STYLE = """
.lacks { display: none; } .lacks-plots .lacks { display: block; }
:root { color-scheme: light dark; --ink: #222; --dim: #666; --paper: #fff; --card: #f4f5f7; --line: #ddd; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e4e4; --dim: #a0a0a0; --paper: #16181c; --card: #22252b; --line: #3a3e46; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
main { max-width: 1100px; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.6rem; margin: .5rem 0; overflow-wrap: anywhere; }
h2 { font-size: 1.25rem; margin: 2.2rem 0 .6rem; padding-bottom: .3rem;
  border-bottom: 1px solid var(--line); }
h3 { font-size: 1.05rem; margin: 1.2rem 0 .4rem; }
dl { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: .6rem; margin: 1rem 0; }
dl div { background: var(--card); border-radius: 8px; padding: .6rem .8rem; }
dt, figcaption { color: var(--dim); font-size: .85rem; }
dd { margin: 0; font-weight: 600; overflow-wrap: anywhere; }
.state { border-radius: 99px; padding: .1rem .7rem; color: #fff; font-size: .9rem; font-weight: 600; }
.finished { background: #00734f; } .running { background: #0072b2; }
.failed { background: #b3261e; } .silent, .unfinished, .stopped, .diverged { background: #a34700; }
.note { background: var(--card); border-left: 4px solid #d55e00; padding: .5rem .8rem;
  overflow-wrap: anywhere; }
.wide { overflow-x: auto; margin-bottom: 1rem; }
table { border-collapse: collapse; font-size: .95rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .3rem 1rem .3rem 0; border-bottom: 1px solid var(--line);
  vertical-align: top; }
th { color: var(--dim); font-weight: 600; }
small { color: var(--dim); }
.cell { display: inline-block; white-space: nowrap; }
a { color: inherit; }
summary { cursor: pointer; }
pre { background: var(--card); border-radius: 8px; padding: .8rem; overflow-x: auto; font-size: .85rem; }
figure { margin: 1rem 0; }
img { display: block; max-width: 100%; height: auto; background: #fff; border-radius: 8px; }
.plot { margin: .5rem 0; }
.modes { --wide: min(1660px, 100vw - 3rem); width: var(--wide); margin-left: calc(50% - var(--wide) / 2);
  display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 0 2rem; }
@media (max-width: 1000px) { .modes { grid-template-columns: minmax(0, 1fr); } }
@media (min-width: 1001px) { .modes.three { grid-template-columns: repeat(3, minmax(0, 1fr)); } }
"""
