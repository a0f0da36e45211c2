"""``python -m attack_client``: the same as ``intaglio attack``."""

from __future__ import annotations

from attack_client.cli import attack

__all__: list[str] = []

if __name__ == "__main__":
    attack(prog_name="python -m attack_client")
