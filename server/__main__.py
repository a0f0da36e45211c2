"""``python -m server``: the same as ``intaglio serve``."""

from __future__ import annotations

from server.cli import serve

serve(prog_name="python -m server")
