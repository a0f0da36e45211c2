"""The maps that leave: of whoever answered, for the label that leaves, in a form that tells little.

Made after the chain has run, because the class explained is the top-1 of the answer that leaves;
so the probabilities of an image cannot depend on whether a map was asked for.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from defenses.chain import Chain
from defenses.contract import Answers, Defense, Output, Queries
from models.errors import ExplanationError
from models.explain import Extent, Interpreter, build_interpreter, canonical_maps
from models.simplex import top1
from models.victim import Victim

__all__ = ["Explainer"]


class Explainer:
    """Makes the maps of one victim and its chain.

    Args:
        name: of the interpreter.
        victim: who answers.
        chain: what its answers pass through.
        layer: of the victim and of every network that answers in its place; None: the default.

    Raises:
        ExplanationError: there is no such interpreter or layer, or a link would let the label
            change after another made a map of its own.
    """

    def __init__(
        self, name: str, victim: Victim, chain: Chain, *, layer: str | None = None
    ) -> None:
        self._name = name
        self._layer = layer
        self._victim = victim
        self._chain = chain
        self._size: tuple[int, int] | None = None
        self._extent: Extent | None = None
        self._interpreters: dict[nn.Module, Interpreter] = {}
        self._interpreter(victim.module(0))
        _refuse_stale_maps(chain)

    def __repr__(self) -> str:
        layer = "" if self._layer is None else f", layer={self._layer!r}"
        return f"Explainer({self._name!r}{layer})"

    @property
    def covered(self) -> bool:
        """Whether a map may come from elsewhere than one undisturbed network.

        A link of the chain covers it, or the victim is an ensemble: each map is of the member that
        answered, and members disagree about what is foreign to them.
        """
        try:
            several = self._victim.module(1) is not None
        except IndexError:
            several = False
        return several or Output.ATTRIBUTIONS in self._chain.covers

    @torch.no_grad()
    def size(self, shape: tuple[int, int, int]) -> tuple[int, int]:
        """Height and width of the maps of images ``(C, H, W)``, found by making one.

        Raises:
            ExplanationError: the interpreter cannot explain this network.
        """
        if self._size is None:
            network = self._victim.module(0)
            device = next(network.parameters()).device
            label = torch.zeros(1, dtype=torch.int64, device=device)
            maps = self._interpreter(network)(torch.zeros(1, *shape, device=device), label)
            self._size = (maps.shape[1], maps.shape[2])
        return self._size

    def extent(self, shape: tuple[int, int, int]) -> Extent:
        """Which part of images ``(C, H, W)`` a map covers, found once."""
        if self._extent is None:
            self._extent = self._interpreter(self._victim.module(0)).extent(shape)
        return self._extent

    @torch.no_grad()
    def maps(self, queries: Queries, answers: Answers) -> Tensor:
        """Canonical maps ``(B, h, w)`` of what leaves; zeros in rows that ask for none.

        Args:
            queries: the batch, whole: an ensemble routes it as it did when it answered.
            answers: what the chain made of it. Maps that a link put there are the ones that leave.

        Raises:
            ExplanationError: a network has no such layer, or its maps are of another size.
        """
        rows = queries.explain.nonzero()[:, 0]
        height, width = self.size((queries.images.shape[1], *queries.images.shape[2:]))
        if answers.attributions is None:
            made = self._made(queries, top1(answers.probabilities), rows)
        else:
            made = answers.attributions[rows]
        leaving = torch.zeros(
            len(queries.images), height, width, dtype=torch.float32, device=made.device
        )
        leaving[rows] = canonical_maps(made)
        return leaving

    def _made(self, queries: Queries, top: Tensor, rows: Tensor) -> Tensor:
        members = self._victim.route(queries.images)[rows]
        asking = Queries(
            images=queries.images[rows],
            seeds=queries.seeds[rows],
            explain=queries.explain[rows],
            victim=queries.victim[rows],
        )
        classes = top[rows]
        maps = torch.empty(len(rows), *(self._size or (0, 0)), device=rows.device)
        for member in sorted(set(members.tolist())):
            own = members == member
            network = self._victim.module(member)
            maps[own] = self._interpret(network, asking.images[own], classes[own])
        for link in self._chain.links:
            maps = link.attribute(asking, classes, maps, self._interpret)
        return maps

    def _interpret(self, network: nn.Module, images: Tensor, classes: Tensor) -> Tensor:
        maps = self._interpreter(network)(images, classes)
        if maps.shape[1:] != self._size:
            raise ExplanationError(
                f"the maps of one network are {tuple(maps.shape[1:])} and those of the victim "
                f"{self._size}: networks that answer for one model must be explained alike"
            )
        return maps

    def _interpreter(self, network: nn.Module) -> Interpreter:
        if network not in self._interpreters:
            made = build_interpreter(self._name, network, layer=self._layer)
            self._interpreters[network] = made
        return self._interpreters[network]


def _refuse_stale_maps(chain: Chain) -> None:
    """A link's own map explains its own label: one that came later would explain another."""
    makers = [
        position
        for position, link in enumerate(chain.links)
        if Output.ATTRIBUTIONS in link.covers and type(link).attribute is Defense.attribute
    ]
    for link in chain.links[makers[0] + 1 :] if makers else ():
        if not link.keeps_top1:
            raise ExplanationError(
                f"{link.kind} may change the label that {chain.links[makers[0]].kind} explained: "
                "leave one of them out, or serve no explanations"
            )
