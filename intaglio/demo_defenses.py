"""What the demo defends: whose weights answer, what answers pass through, how much is asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = [
    "DEFENSES",
    "ENSEMBLE",
    "MORE_DEFENSES",
    "PAIR",
    "PLAIN",
    "asked_at_most",
    "expected_minutes",
    "served_as",
]

Served = Mapping[str, tuple[str, Sequence[Mapping[str, Any]]]]

PLAIN, PAIR, ENSEMBLE = "digits-plain", "digits-am", "digits-edm"

DEFENSES: Served = {
    # name in the table: (whose weights answer, the chain)
    "none": (PLAIN, []),
    "label-only": (PLAIN, [{"kind": "label-only"}]),
    "stingy": (PLAIN, [{"kind": "stingy", "ratio": 0.2}]),
    "rounding": (PLAIN, [{"kind": "rounding", "decimals": 1}]),
    "reverse-sigmoid": (PLAIN, [{"kind": "reverse-sigmoid"}]),
    "am": (PAIR, [{"kind": "am", "benign_cost": 0.01}]),
}

MORE_DEFENSES: Served = {
    "top-k": (PLAIN, [{"kind": "top-k", "k": 3}]),
    "mad": (PLAIN, [{"kind": "mad", "epsilon": 1.0, "oracle": "argmax"}]),
    "grad2": (PLAIN, [{"kind": "grad2", "epsilon": 0.5}]),
    "modelguard-w": (PLAIN, [{"kind": "modelguard-w", "epsilon": 1.0}]),
    "modelguard-s": (PLAIN, [{"kind": "modelguard-s", "epsilon": 1.0, "codebook": "memory"}]),
    "edm": (ENSEMBLE, []),
    "ini": ("digits-ini", []),
    "outlier-exposure": ("digits-oe", []),
    "nasty": ("digits-nasty", []),
    "stt": ("digits-stt", []),
    "ast": ("digits-ast", []),
    "dd-s": (PLAIN, [{"kind": "dd-s"}]),
    "dd-i": (PLAIN, [{"kind": "dd-i"}]),
    "deepdefense": (PLAIN, [{"kind": "deepdefense"}]),
    "am+top-k": (PAIR, [{"kind": "am", "benign_cost": 0.01}, {"kind": "top-k", "k": 3}]),
    "am+label-only": (PAIR, [{"kind": "am", "benign_cost": 0.01}, {"kind": "label-only"}]),
    "reverse-sigmoid+rounding": (
        PLAIN,
        [{"kind": "reverse-sigmoid"}, {"kind": "rounding", "decimals": 1}],
    ),
}

SEARCHING = frozenset({"dd-s", "deepdefense"})
"""Links that search for every query: a query costs a hundred times what it costs elsewhere."""

SEARCHED_AT_MOST = 500
"""Queries that a thief asks behind one of those."""

# For people to plan by: what the short demo's 150 seconds come to per victim and defense, and a
# search, on two CPU cores.
A_VICTIM, A_DEFENSE, A_SEARCHED_QUERY, HONEST = 8.0, 23.0, 0.07, 602


def asked_at_most(chain: Sequence[Mapping[str, Any]]) -> int | None:
    """The largest budget behind ``chain``; None where the demo's own is affordable."""
    return SEARCHED_AT_MOST if _searches(chain) else None


def expected_minutes(defenses: Served, splits: int) -> int:
    """About how long the demo takes on two CPU cores, at least 1."""
    victims = len({PLAIN, *(bundle for bundle, _ in defenses.values())})
    searched = sum(_searches(chain) for _, chain in defenses.values())
    queries = searched * (HONEST + SEARCHED_AT_MOST)
    seconds = A_VICTIM * victims + A_DEFENSE * len(defenses) + A_SEARCHED_QUERY * queries
    return max(1, round(splits * seconds / 60))


def served_as(name: str) -> str:
    """What callers see of the defense ``name``; a ``+`` has no place in the name of a model."""
    return name.replace("+", "-")


def _searches(chain: Sequence[Mapping[str, Any]]) -> bool:
    return any(link["kind"] in SEARCHING for link in chain)
