"""From ingredients to a served model: the chain is built, the maps are tried, and it is logged."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from defenses.contract import Material
from defenses.registry import build_chain
from server.errors import ConfigurationError
from server.explaining import build_explainer, build_interpreter
from server.ingredients import VICTIM, Ingredients, blamed_on, of_the_stricter_chain
from server.served import ServedModel

__all__ = ["assemble", "log_served"]

logger = logging.getLogger(__name__)


def assemble(ingredients: Ingredients) -> ServedModel:
    """Make a served model; may run its networks, so only where nobody else does at the time.

    Raises:
        ConfigurationError: the chain or the explanations cannot be built so.
    """
    with blamed_on(ingredients.order.key):
        return _assembled(ingredients)


def _assembled(ingredients: Ingredients) -> ServedModel:
    order, victim = ingredients.order, ingredients.victim
    offer, card = order.offer, order.bundle.card
    interpreter = build_interpreter(offer.explanations, victim)
    networks = {VICTIM: victim.module(0), **ingredients.networks}
    material = Material(card, networks, interpreter, ingredients.codebooks)

    def behind(specs: Sequence[Mapping[str, Any]]) -> ServedModel:
        chain = build_chain(specs, material)
        served = ServedModel(
            order.name, order.version, card, victim, chain, tier=order.tier, digest=order.digest
        )
        if offer.explanations is None:
            return served
        explainer = build_explainer(offer.explanations, victim, chain, card.input.shape)
        return replace(served, explainer=explainer, explanation_cost=offer.explanations.cost)

    served = behind(offer.defenses)
    if offer.tighten is None:
        return served
    with of_the_stricter_chain():
        tightened = behind(offer.tighten)
    if repr(tightened.chain) == repr(served.chain):
        raise ConfigurationError("tighten: this is the chain that everybody is answered through")
    return replace(served, tightened=tightened)


def log_served(model: ServedModel, *, tiers: bool) -> None:
    """Say what is served, whose weights those are, and what about it an operator may not want.

    Args:
        model: of one tier.
        tiers: whether there are others beside it.
    """
    training = model.card.networks[model.card.members[0]].training
    objective = "unknown" if training is None else training.objective
    title = f"{model.name} version {model.version}"
    if tiers:
        title += f" for tier {model.tier}"
    logger.info(
        "serving %s: weights %s (objective: %s), defenses: %r",
        title,
        model.weights,
        objective,
        model.chain,
    )
    for kind in model.chain.timing_leaks:
        logger.warning("%s: how long %s takes tells what it decided", title, kind)
    for kind in model.chain.stateful:
        logger.warning("%s: what %s answers depends on what was asked before", title, kind)
    links = model.chain.links
    if model.tightened is not None:
        links += model.tightened.chain.links
        logger.info("%s: callers that the monitor suspects get %r", title, model.tightened.chain)
    used = {role for link in links for role in link.roles}
    used.update((*model.card.members, "hash"))
    for role in sorted(model.card.networks.keys() - used):
        logger.warning(
            "%s: its bundle holds a network %r that no defense uses: these weights were trained "
            "for a defense that is not configured",
            title,
            role,
        )
