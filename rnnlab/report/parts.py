"""The parts that pages are made of, as HTML."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any


def section(title: str, content: str) -> str:
    """A part of the page with a heading."""
    return f"<section><h2>{text(title)}</h2>{content}</section>"


def table(head: tuple[str, ...], rows: Iterable[tuple[Any, ...]]) -> str:
    """A table that scrolls where it is too wide; no heads, no header."""
    top = "".join(f"<th>{text(cell)}</th>" for cell in head)
    top = f"<thead><tr>{top}</tr></thead>" if any(head) else ""
    body = "".join(f"<tr>{''.join(f'<td>{text(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f'<div class="wide"><table>{top}<tbody>{body}</tbody></table></div>'


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


def text(value: Any) -> str:
    """Text as HTML."""
    return html.escape(str(value))


def clock(seconds: float) -> str:
    """A time, from seconds since 1970."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def duration(seconds: float) -> str:
    """A span of seconds, readable."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
