"""What one served model is made of: found, checked and loaded, before anything computes with it.

Loading takes long and touches nothing that is served, so it may happen in any thread. Making a
model of what was loaded (``server.assembly``) may run networks that are in use elsewhere.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from torch import Tensor, nn

from defenses.errors import DefenseError
from defenses.registry import required_roles
from models.bundle import Bundle
from models.card import Card
from models.errors import ModelsError
from models.victim import Victim
from server.errors import ConfigurationError
from server.library import Library
from server.settings import TierSettings
from server.weights import Weights

__all__ = ["VICTIM", "Ingredients", "Order", "blamed_on", "gather", "of_the_stricter_chain"]

VICTIM = "victim"


@dataclass(frozen=True, slots=True)
class Order:
    """One model that shall be served: to one tier, under one name and version.

    Attributes:
        key: its place in the configuration, which every complaint begins with.
        name: served name.
        version: under which it is served.
        tier: of the callers that it answers.
        offer: what the configuration says of it.
        bundle: whose weights answer.
        lenders: bundles that networks come from, by role.
        digest: of all of that, the cards (with the SHA-256 of every file) included.
    """

    key: str
    name: str
    version: str
    tier: str
    offer: TierSettings
    bundle: Bundle
    lenders: Mapping[str, tuple[Bundle, str]]
    digest: str

    @classmethod
    def place(
        cls,
        key: str,
        *,
        name: str,
        version: str,
        tier: str,
        offer: TierSettings,
        bundle: Bundle,
        library: Library,
    ) -> Order:
        """The order, with what it borrows looked up.

        Raises:
            ConfigurationError: a role is borrowed that nobody needs, or from where it is not.
        """
        with blamed_on(key):
            needed = _roles(offer)
        lenders = {}
        for role, reference in offer.roles.items():
            if role not in needed:
                raise ConfigurationError(f"{key}.roles.{role}: no defense of this model needs it")
            with blamed_on(f"{key}.roles.{role}"):
                lenders[role] = _lender(reference, bundle.card, library)
        parts = {
            "offer": offer.model_dump(mode="json", include=set(TierSettings.model_fields)),
            "bundles": [
                (str(each.path.resolve()), each.card.model_dump(mode="json"))
                for each in (bundle, *(lender for lender, _ in lenders.values()))
            ],
            "factories": library.allow_factories,
        }
        digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
        return cls(key, name, version, tier, offer, bundle, lenders, digest)


@dataclass(frozen=True, slots=True)
class Ingredients:
    """An order and what was loaded for it, all on one device.

    Attributes:
        order: what was ordered.
        victim: who answers.
        networks: what its defenses need, by role, but for the victim.
        codebooks: words ``(n, K)`` by kind of defense.
    """

    order: Order
    victim: Victim
    networks: Mapping[str, nn.Module]
    codebooks: Mapping[str, Tensor]


def gather(order: Order, weights: Weights) -> Ingredients:
    """Load what ``order`` is made of, and nothing that is loaded already.

    Raises:
        ConfigurationError: a file is not what its card says, or a network does not fit.
    """
    bundle, card = order.bundle, order.bundle.card
    networks = {}
    for role, (lender, held) in order.lenders.items():
        with blamed_on(f"{order.key}.roles.{role}"):
            networks[role] = _fitting(lender, held, weights)
    with blamed_on(order.key):
        victim = weights.victim(bundle)
        for role in sorted(_roles(order.offer) - networks.keys()):
            if role in card.networks and role != VICTIM:
                networks[role] = _fitting(bundle, role, weights)
        codebooks = {kind: bundle.codebook(kind, weights.device) for kind in card.codebooks}
    return Ingredients(order, victim, networks, codebooks)


def _roles(offer: TierSettings) -> frozenset[str]:
    needed = required_roles(offer.defenses)
    with of_the_stricter_chain():
        return needed | required_roles(offer.tighten or ())


def _lender(reference: str, card: Card, library: Library) -> tuple[Bundle, str]:
    """The bundle and role of ``NAME[/VERSION]#ROLE``, if it fits the bundle that answers."""
    place, separator, role = reference.partition("#")
    if not separator or not role:
        raise ConfigurationError(f"{reference!r} is not a network: write NAME/VERSION#ROLE")
    lender = library.open(place)
    if lender.card.input.shape != card.input.shape:
        raise ConfigurationError(
            f"{reference} is shown {_shape(lender.card)} images and {card.name}/{card.version} "
            f"{_shape(card)} images"
        )
    if lender.card.labels != card.labels:
        raise ConfigurationError(
            f"{reference} and {card.name}/{card.version} have different labels"
        )
    return lender, role


def _fitting(bundle: Bundle, role: str, weights: Weights) -> nn.Module:
    network = weights.network(bundle, role)
    outputs = bundle.card.networks[role].outputs
    if outputs != bundle.card.classes:
        raise ConfigurationError(
            f"network {role!r} of {bundle.card.name}/{bundle.card.version} has {outputs} outputs "
            f"and its bundle {bundle.card.classes} labels"
        )
    return network


@contextmanager
def blamed_on(key: str) -> Iterator[None]:
    """Turn what goes wrong inside into one sentence that begins with ``key``."""
    try:
        yield
    except DefenseError as error:
        # These begin with a place of their own: defenses[0].k
        message = str(error)
        joint = "." if message.startswith("defenses[") else ".defenses: "
        raise ConfigurationError(f"{key}{joint}{message}") from error
    except (ConfigurationError, ModelsError) as error:
        message = str(error)
        joint = "." if message.startswith(("explanations: ", "tighten")) else ": "
        raise ConfigurationError(f"{key}{joint}{message}") from error


@contextmanager
def of_the_stricter_chain() -> Iterator[None]:
    """Name places in ``tighten`` as such: a chain calls its own ``defenses``."""
    try:
        yield
    except DefenseError as error:
        raise ConfigurationError(str(error).replace("defenses[", "tighten[")) from error


def _shape(card: Card) -> str:
    return "x".join(map(str, card.input.shape))
