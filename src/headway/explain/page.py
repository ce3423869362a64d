"""The page that a report is: one HTML file that needs nothing else, on light and dark screens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from headway.explain.svg import escape, read_style

# The page carries no script and may load nothing, whatever text a data set brings along.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


@dataclass(frozen=True)
class Section:
    """One part of a page.

    Args:
        key: What links to it point at.
        title: Heading.
        content: HTML below it.
    """

    key: str
    title: str
    content: str


def build_page(title: str, head: str, sections: Sequence[Section]) -> str:
    """Put a page together.

    Args:
        title: Name of the page; is escaped.
        head: HTML above the links to the sections.
        sections: In order.
    """
    links = "".join(f'<a href="#{item.key}">{escape(item.title)}</a>' for item in sections)
    links = f"<nav>{links}</nav>" if len(sections) > 1 else ""
    bodies = "\n".join(
        f'<section id="{item.key}"><h2>{escape(item.title)}</h2>{item.content}</section>'
        for item in sections
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{escape(title)}</title><style>{read_style('page')}</style></head>\n"
        f"<body><main>{head}{links}\n{bodies}\n</main></body></html>\n"
    )


def paragraph(content: str) -> str:
    """Write a paragraph of text."""
    return f'<p class="soft">{escape(content)}</p>'


def note(content: object) -> str:
    """Say why something is not there."""
    return f'<p class="note">{escape(content)}</p>'


def wide(content: str) -> str:
    """Let content that is wider than the page be moved sideways."""
    return f'<div class="wide">{content}</div>'


def details(summary: str, content: str) -> str:
    """Hide content until the reader asks for it."""
    return f"<details><summary>{escape(summary)}</summary>{content}</details>"


def pair(lines: Sequence[tuple[str, str]], below: str = "") -> str:
    """Set texts that belong together below each other: names, and HTML."""
    listed = "".join(f'<dt>{name}</dt><dd dir="auto">{value}</dd>' for name, value in lines)
    return f'<div class="pair"><dl>{listed}</dl>{below}</div>'


def code(content: str) -> str:
    """Write text as it stands in a file."""
    return f"<pre><code>{escape(content)}</code></pre>"


def tiles(values: Sequence[tuple[str, str]]) -> str:
    """Write a few important numbers.

    Args:
        values: Pairs (number, what it is).
    """
    boxes = "".join(
        f'<div class="tile"><b>{escape(value)}</b><span>{escape(name)}</span></div>'
        for value, name in values
    )
    return f'<div class="tiles">{boxes}</div>'


def table(heads: Sequence[str], rows: Sequence[Sequence[object]], *, words: int = 1) -> str:
    """Write a table.

    Args:
        heads: Names of the columns.
        rows: Values; whole numbers get separators.
        words: Columns of words at the left; the others are numbers.
    """

    def cell(place: int, value: object, tag: str) -> str:
        written = f"{value:,}" if isinstance(value, int) else str(value)
        kind = ' class="word"' if place < words else ""
        return f"<{tag}{kind}>{escape(written)}</{tag}>"

    head = "".join(cell(place, name, "th") for place, name in enumerate(heads))
    body = "".join(
        "<tr>" + "".join(cell(place, value, "td") for place, value in enumerate(row)) + "</tr>"
        for row in rows
    )
    return wide(f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>")
