"""What a theft came to: rows, files, a table, a picture."""

from __future__ import annotations

from attack_client.report.curves import draw_curves, write_curves
from attack_client.report.environment import describe_command, describe_environment
from attack_client.report.files import read_json, to_markdown, write_json, write_markdown
from attack_client.report.kept_rows import with_earlier_rows
from attack_client.report.schema import Labels, Report, Row, Theft
from attack_client.report.summary import Line, summarise
from attack_client.report.table import render_table
from attack_client.report.writing import CURVES, REPORT, write_report

__all__ = [
    "CURVES",
    "REPORT",
    "Labels",
    "Line",
    "Report",
    "Row",
    "Theft",
    "describe_command",
    "describe_environment",
    "draw_curves",
    "read_json",
    "render_table",
    "summarise",
    "to_markdown",
    "with_earlier_rows",
    "write_curves",
    "write_json",
    "write_markdown",
    "write_report",
]
