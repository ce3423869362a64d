"""The page that a report is: one HTML file that needs nothing else, on light and dark screens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from headway.explain.svg import escape

# The page carries no script and may load nothing, whatever text a data set brings along.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"

_STYLE = """
:root{color-scheme:light dark;--paper:#f8fafc;--card:#fff;--ink:#0f172a;--soft:#475569;
--rule:#e2e8f0;--accent:#2563eb;--good:#15803d;--bad:#b91c1c;--mark:#fde68a}
@media (prefers-color-scheme:dark){:root{--paper:#0b1120;--card:#0f172a;--ink:#e2e8f0;
--soft:#94a3b8;--rule:#1e293b;--accent:#60a5fa;--good:#4ade80;--bad:#f87171;--mark:#854d0e}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);
font:15px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans",sans-serif}
main{max-width:1200px;margin:0 auto;padding:28px 20px 80px}
h1{font-size:28px;line-height:1.2;margin:0 0 4px}h2{font-size:20px;margin:0 0 4px}
h3{font-size:15px;margin:22px 0 8px}
p{margin:0 0 12px}.soft{color:var(--soft)}.small{font-size:13px}
nav{margin:14px 0 20px;display:flex;flex-wrap:wrap;gap:4px 16px;font-size:14px}
a{color:var(--accent);text-decoration:none}a:hover{text-decoration:underline}
section{background:var(--card);border:1px solid var(--rule);border-radius:12px;
padding:20px 22px;margin:0 0 18px}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(140px,1fr));gap:12px}
.tile{background:var(--card);border:1px solid var(--rule);border-radius:12px;padding:12px 16px}
.tile b{display:block;font-size:22px;line-height:1.3;font-variant-numeric:tabular-nums}
.tile span{color:var(--soft);font-size:13px}
.charts{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,420px),1fr));gap:18px}
.charts svg{width:100%;height:auto}
.charts.small{grid-template-columns:repeat(auto-fill,minmax(min(100%,280px),1fr));margin-top:18px}
.bars{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,260px),1fr));gap:18px}
.bars svg{max-width:100%;height:auto}
svg{display:block}
.wide{overflow-x:auto;padding-bottom:6px}
table{border-collapse:collapse;font-size:14px;font-variant-numeric:tabular-nums;width:100%}
th,td{text-align:right;padding:5px 10px;border-bottom:1px solid var(--rule);white-space:nowrap}
th{font-weight:600;color:var(--soft)}
th.word,td.word{text-align:left}
.pair{border-top:1px solid var(--rule);padding:12px 0}.pair:first-of-type{border-top:0}
.pair dl{display:grid;grid-template-columns:84px minmax(0,1fr);gap:2px 12px;margin:0}
.pair dt{color:var(--soft);font-size:13px;padding-top:1px}
.pair dd{margin:0;overflow-wrap:anywhere;white-space:pre-wrap}
.pair .scores{color:var(--soft);font-size:13px;font-variant-numeric:tabular-nums}
mark{background:var(--mark);color:inherit;border-radius:3px;padding:0 1px}
.right{color:var(--good)}
details{margin-top:8px}summary{cursor:pointer;color:var(--accent);font-size:14px}
details>.wide{margin-top:10px}
pre{overflow-x:auto;font:13px/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;margin:0}
.note{color:var(--soft);font-style:italic;margin:0}
.warnings{margin:0 0 14px;padding:10px 14px 10px 30px;border-left:3px solid var(--bad);
background:var(--paper);border-radius:0 8px 8px 0}
@media print{body{background:#fff}section{break-inside:avoid;border:0;padding:8px 0}}
""".replace("\n", "")


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
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>\n"
        f"<body><main>{head}{links}\n{bodies}\n</main></body></html>\n"
    )


def paragraph(content: str, *, kind: str = "soft") -> str:
    """Write a paragraph of text."""
    return f'<p class="{kind}">{escape(content)}</p>'


def note(content: object) -> str:
    """Say why something is not there."""
    return f'<p class="note">{escape(content)}</p>'


def wide(content: str) -> str:
    """Let content that is wider than the page be moved sideways."""
    return f'<div class="wide">{content}</div>'


def details(summary: str, content: str) -> str:
    """Hide content until the reader asks for it."""
    return f"<details><summary>{escape(summary)}</summary>{content}</details>"


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
