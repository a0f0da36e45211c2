"""One HTML file that needs nothing else: style and charts inside, no request to anywhere."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

__all__ = ["Cell", "code", "facts", "page", "paragraph", "section", "table"]

Cell = str | tuple[str, str]
"""Text of a table's cell, or text and its style."""

STYLE = """
:root{--paper:#fff;--ink:#1c1f24;--soft:#5c6470;--line:#d9dde3;--tint:#f4f6f8;--bad:#b3261e;
--good:#1b6e3c;--mid:#8a5a00}
@media (prefers-color-scheme:dark){:root{--paper:#14171c;--ink:#e7e9ec;--soft:#a3abb6;
--line:#333a44;--tint:#1d222a;--bad:#ff8a80;--good:#7bd69b;--mid:#f0bf63}}
*{box-sizing:border-box}
body{margin:0 auto;padding:1.2rem;max-width:76rem;background:var(--paper);color:var(--ink);
font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}
h1{font-size:1.5rem;line-height:1.25;margin:.2rem 0 .4rem}
h2{font-size:1.12rem;margin:2rem 0 .5rem}
p{margin:.4rem 0;max-width:48rem}
.soft{color:var(--soft)} .bad{color:var(--bad)} .good{color:var(--good)} .mid{color:var(--mid)}
.facts{display:grid;grid-template-columns:repeat(auto-fit,minmax(9.5rem,1fr));gap:.6rem;
margin:1rem 0}
.facts div{background:var(--tint);border-radius:.5rem;padding:.55rem .7rem}
.facts b{display:block;font-size:1.25rem;font-variant-numeric:tabular-nums}
.facts span{color:var(--soft);font-size:.82rem}
.scroll{overflow-x:auto;margin:.6rem 0;border:1px solid var(--line);border-radius:.5rem}
table{border-collapse:collapse;width:100%;font-size:.86rem;font-variant-numeric:tabular-nums}
th,td{padding:.34rem .6rem;text-align:right;border-bottom:1px solid var(--line);
white-space:nowrap}
tr:last-child td{border-bottom:0}
th{background:var(--tint);color:var(--soft);font-weight:600;vertical-align:bottom;
white-space:normal}
th:first-child,td:first-child{text-align:left;position:sticky;left:0;background:var(--paper)}
th:first-child{background:var(--tint)}
td.wide{white-space:normal;min-width:16rem;text-align:left}
td.heat{text-align:center}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,21rem),1fr));
gap:.8rem;margin:.6rem 0}
figure{margin:0;border:1px solid var(--line);border-radius:.5rem;padding:.5rem}
figcaption{font-size:.86rem;font-weight:600}
svg{width:100%;height:auto;display:block}
svg text{fill:var(--soft);font:9.5px system-ui,"DejaVu Sans",sans-serif}
svg .grid{stroke:var(--line);stroke-width:.7}
svg .level{stroke:var(--soft);stroke-dasharray:4 3}
.legend{display:flex;flex-wrap:wrap;gap:.2rem 1rem;font-size:.84rem;max-width:none}
.legend svg{display:inline-block;width:26px;height:10px;margin-right:.35rem}
pre{overflow-x:auto;background:var(--tint);padding:.7rem;border-radius:.5rem;font-size:.82rem}
details summary{cursor:pointer;color:var(--soft);margin:.8rem 0 .3rem}
ul{padding-left:1.2rem;max-width:56rem} li{margin:.25rem 0}
"""


def page(title: str, parts: Sequence[str]) -> str:
    """The whole file; ``parts`` are HTML."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f"<h1>{escape(title)}</h1>\n" + "\n".join(parts) + "\n</body>\n</html>\n"
    )


def section(heading: str, *parts: str, folded: bool = False) -> str:
    """A heading and what is below it; a folded one opens when it is asked for."""
    inside = "".join(parts)
    if folded:
        return f"<details><summary>{escape(heading)}</summary>{inside}</details>"
    return f"<section><h2>{escape(heading)}</h2>{inside}</section>"


def paragraph(text: str, kind: str = "") -> str:
    """A paragraph of plain text."""
    return f'<p class="{kind}">{escape(text)}</p>' if kind else f"<p>{escape(text)}</p>"


def facts(known: Sequence[tuple[str, str]]) -> str:
    """Figures side by side: ``(figure, what it is)`` each."""
    boxes = [f"<div><b>{escape(big)}</b><span>{escape(small)}</span></div>" for big, small in known]
    return f'<div class="facts">{"".join(boxes)}</div>'


def table(heads: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    """A table that scrolls sideways on its own where the screen is narrow."""
    top = "".join(f"<th>{escape(head)}</th>" for head in heads)
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    return (
        f'<div class="scroll"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>'
        "</div>"
    )


def code(text: str) -> str:
    """A command."""
    return f"<pre>{escape(text)}</pre>"


def _cell(cell: Cell) -> str:
    if isinstance(cell, str):
        return f"<td>{escape(cell)}</td>"
    text, style = cell
    kind = f' style="{escape(style)}" class="heat"' if ":" in style else f' class="{style}"'
    return f"<td{kind}>{escape(text)}</td>"
