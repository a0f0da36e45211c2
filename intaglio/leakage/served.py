"""What the name of a defense stands for: whose weights answered, behind which links."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from intaglio.leakage.entries import DefenseEntry, VictimEntry
from intaglio.leakage.matrix import Matrix

__all__ = ["SERVED_HEADS", "served"]

SERVED_HEADS = ("defense", "weights", "links")


def served(matrix: Matrix) -> Iterator[tuple[str, str, str]]:
    """Text under ``SERVED_HEADS`` for each defense of ``matrix``, in its order.

    A row named after a method says nothing of how strongly it was set, and may not even be the
    link of that name; a reader who compares rows has to see both.
    """
    for name, entry in matrix.defenses.items():
        yield name, _weights(matrix, entry), _links(entry)


def _weights(matrix: Matrix, entry: DefenseEntry) -> str:
    if entry.victim is None:
        release = "" if entry.release is None else f", release {entry.release}"
        return f"{entry.model}, as it runs{release}"
    return _trained(matrix.victims[entry.victim])


def _trained(victim: VictimEntry) -> str:
    if victim.bundle is not None:
        return "/".join(victim.bundle.parts[-2:])
    assert victim.recipe is not None
    return ", ".join((victim.recipe, *victim.set))


def _links(entry: DefenseEntry) -> str:
    if entry.victim is None:
        return "the running server's own"
    said = [", then ".join(map(_link, entry.chain)) or "none"]
    said += [f"{role} of {source}" for role, source in entry.roles.items()]
    if entry.budget_limit is not None:
        said.append(f"asked {entry.budget_limit:,} times at most")
    return "; ".join(said)


def _link(link: Mapping[str, Any]) -> str:
    options = ", ".join(f"{key} {value}" for key, value in link.items() if key != "kind")
    return f"{link['kind']} ({options})" if options else str(link["kind"])
