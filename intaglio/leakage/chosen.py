"""What attacks were told that they have other defaults of."""

from __future__ import annotations

from collections.abc import Iterator

from intaglio.leakage.matrix import Matrix

__all__ = ["CHOSEN_HEADS", "chosen"]

CHOSEN_HEADS = ("attack", "kind", "options")


def chosen(matrix: Matrix) -> Iterator[tuple[str, str, str]]:
    """Text under ``CHOSEN_HEADS`` for each attack of ``matrix`` that the file gives options."""
    for name, entry in matrix.attacks.items():
        if entry.options:
            options = ", ".join(f"{key} {value}" for key, value in entry.options.items())
            yield name, entry.attack or name, options
