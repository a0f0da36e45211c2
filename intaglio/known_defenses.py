"""Our defenses as an attacker knows them: functions from what a victim said to what it serves.

    --adapt recover --known-defense intaglio.known_defenses:reverse_sigmoid

The attack client has no defense of its own; what its operator names here is loaded for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from defenses.contract import Material, Queries
from defenses.registry import build_chain, required_roles
from models.card import Card, InputSpec, NetworkCard, Normalisation
from models.simplex import GRID, round_to_grid

__all__ = [
    "chain",
    "check_links",
    "check_options",
    "grad2",
    "label_only",
    "mad",
    "modelguard_s",
    "modelguard_w",
    "reverse_sigmoid",
    "rounding",
    "stingy",
    "top_k",
]

Function = Callable[[NDArray[np.float32]], NDArray[np.float32]]

ROWS = 16_384
"""Posteriors that a chain is given at a time."""

OF_IMAGES = frozenset({"am", "dd-s", "deepdefense"})
"""Links that look at the image: no function of posteriors is one of them."""


def check_links(links: Sequence[Mapping[str, Any]]) -> None:
    """Refuse a chain that is no function of posteriors alone.

    Raises:
        ValueError: a link needs the image or a network of the service's.
        DefenseError: there is no such link.
    """
    for link in links:
        if isinstance(link, Mapping) and link.get("kind") in OF_IMAGES:
            raise ValueError(
                f"{link['kind']} is not a function of posteriors, it looks at the image: run a "
                "shadow service instead"
            )
    if needed := sorted(required_roles(links)):
        raise ValueError(f"this chain needs the service's own {', '.join(needed)}")


def check_options(*, classes: int, links: Sequence[Mapping[str, Any]]) -> None:
    """Refuse options of links that need no network, before there is anything to serve.

    A chain with a codebook that lies in a bundle or in Redis is left to who has them.

    Raises:
        DefenseError: the chain cannot be built for ``classes`` probabilities.
    """
    elsewhere = {"modelguard-s": "frozen"}
    if all(
        link.get("codebook", elsewhere.get(link["kind"], "memory")) == "memory" for link in links
    ):
        build_chain(links, Material(card=_card(classes), networks={}))


def chain(*, classes: int, links: Sequence[Mapping[str, Any]]) -> Function:
    """A chain of defenses as a service runs it, victim's grid included.

    Args:
        classes: number of probabilities K.
        links: one mapping per link, in order: ``kind`` and that defense's options, as in the
            configuration of a service.

    Returns:
        ``(n, K)`` float32 to ``(n, K)`` float32; a row that the chain would fail is uniform.

    Raises:
        ValueError: a link needs the image or a network of the service's.
        DefenseError: the chain cannot be built.
    """
    check_links(links)
    built = build_chain(links, Material(card=_card(classes), networks={}))

    def serve(said: NDArray[np.float32]) -> NDArray[np.float32]:
        given = torch.from_numpy(np.ascontiguousarray(said, dtype=np.float32))
        parts = torch.split(given, ROWS)
        with torch.no_grad():
            served = [built.run(_queries(part)).answers.probabilities for part in parts]
        return np.asarray(torch.cat(served).numpy(), dtype=np.float32)

    return serve


def _alone(kind: str) -> Callable[..., Function]:
    def factory(*, classes: int, **options: Any) -> Function:
        return chain(classes=classes, links=[{"kind": kind, **options}])

    factory.__doc__ = f"A chain of ``{kind}`` alone, with its options; see ``chain``."
    factory.__name__ = factory.__qualname__ = kind.replace("-", "_")
    return factory


grad2 = _alone("grad2")
label_only = _alone("label-only")
mad = _alone("mad")
modelguard_s = _alone("modelguard-s")
modelguard_w = _alone("modelguard-w")
reverse_sigmoid = _alone("reverse-sigmoid")
rounding = _alone("rounding")
stingy = _alone("stingy")
top_k = _alone("top-k")


def _queries(said: torch.Tensor) -> Queries:
    """What a chain that looks at posteriors alone is asked."""
    count = len(said)
    return Queries(
        images=torch.zeros(count, 1, 1, 1),
        seeds=torch.zeros(count, dtype=torch.int64),
        explain=torch.zeros(count, dtype=torch.bool),
        victim=round_to_grid(said, GRID),
    )


def _card(classes: int) -> Card:
    """Of a bundle that has classes and nothing else."""
    network = NetworkCard(
        architecture="lenet",
        outputs=classes,
        normalisation=Normalisation(mean=(0.5,), std=(0.5,)),
        file="victim.safetensors",
        sha256="0" * 64,
        parameters=1,
    )
    return Card(
        name="known",
        version="1",
        input=InputSpec(channels=1, height=28, width=28),
        labels=tuple(map(str, range(classes))),
        networks={"victim": network},
    )
