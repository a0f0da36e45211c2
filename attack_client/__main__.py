"""``python -m attack_client``: the same as ``intaglio attack``."""

from __future__ import annotations

import os
import sys

__all__: list[str] = []

if __name__ == "__main__":
    # ``-m`` puts the working directory first; a user's own package ``models`` in it must not
    # shadow ours, and an uninstalled checkout must still be found there.
    if sys.path[0] == os.getcwd():
        sys.path.append(sys.path.pop(0))

    from attack_client.cli import attack

    attack(prog_name="python -m attack_client")
