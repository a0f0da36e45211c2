"""``python -m server``: the same as ``intaglio serve``."""

from __future__ import annotations

import os
import sys

__all__: list[str] = []

if __name__ == "__main__":
    # ``-m`` puts the working directory first; a user's own package ``models`` in it must not
    # shadow ours, and an uninstalled checkout must still be found there.
    if sys.path[0] == os.getcwd():
        sys.path.append(sys.path.pop(0))

    from server.cli import serve

    serve(prog_name="python -m server")
