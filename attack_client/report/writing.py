"""A report in all the forms that people ask for, beside each other in one directory."""

from __future__ import annotations

from pathlib import Path

from attack_client.report.curves import write_curves
from attack_client.report.files import write_json, write_markdown
from attack_client.report.html import write_html
from attack_client.report.schema import Report

__all__ = ["CURVES", "REPORT", "write_report"]

CURVES = "curves.png"
REPORT = "report.json"


def write_report(report: Report, out: Path, *, title: str) -> None:
    """Write ``report.json``, the curves, ``report.md`` and the page ``report.html`` into ``out``.

    Args:
        report: what was found.
        out: the directory, which is made where it is missing.
        title: of the page.

    Raises:
        ReportError: there is nothing to draw.
    """
    write_json(report, out / REPORT)
    write_curves(report.rows, out / CURVES)
    write_markdown(report, out / "report.md", picture=CURVES)
    write_html(report, out / "report.html", title=title)
