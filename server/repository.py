"""From a directory of bundles and the configuration to what is served, or one sentence why not."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from defenses.contract import Material
from defenses.errors import DefenseError
from defenses.registry import build_chain, required_roles
from models.bundle import Bundle, find_bundles, load_victim, open_bundle, resolve_bundle
from models.card import Card
from models.errors import ModelsError
from server.errors import ConfigurationError
from server.explaining import build_explainer, build_interpreter
from server.served import ServedModel
from server.settings import ModelSettings, Settings

__all__ = ["load_models"]

logger = logging.getLogger(__name__)

VICTIM = "victim"


def load_models(settings: Settings, device: torch.device) -> tuple[ServedModel, ...]:
    """Load what is served, onto ``device``: by name, then oldest version first.

    Without ``settings.models`` that is every version of every bundle, undefended; with it exactly
    the names it lists, each behind its chain. What is served is logged, with whose weights.

    Raises:
        ConfigurationError: a bundle or chain cannot be served; names the key.
    """
    root = settings.model_dir
    if not root.is_dir():
        raise ConfigurationError(f"model_dir: there is no directory {root}")
    if settings.models:
        served = tuple(
            _configured(name, settings.models[name], settings, device)
            for name in sorted(settings.models)
        )
    else:
        served = tuple(_undefended(path, settings, device) for path in find_bundles(root))
    if not served:
        raise ConfigurationError(f"model_dir: there is no bundle NAME/VERSION under {root}")
    for model in served:
        _log(model)
    return served


def _undefended(path: Path, settings: Settings, device: torch.device) -> ServedModel:
    with _blamed_on("model_dir"):
        bundle = open_bundle(path, allow_factories=settings.allow_factories)
        return _serve(bundle.card.name, bundle, ModelSettings(), {}, device)


def _configured(
    name: str, model: ModelSettings, settings: Settings, device: torch.device
) -> ServedModel:
    key = f"models.{name}"
    with _blamed_on(f"{key}.victim"):
        path = resolve_bundle(settings.model_dir, model.victim or name)
        bundle = open_bundle(path, allow_factories=settings.allow_factories)
    with _blamed_on(key):
        needed = required_roles(model.defenses)
        needed |= _required_when_tightened(model)
    borrowed: dict[str, nn.Module] = {}
    for role, reference in model.roles.items():
        if role not in needed:
            raise ConfigurationError(f"{key}.roles.{role}: no defense of this model needs it")
        with _blamed_on(f"{key}.roles.{role}"):
            borrowed[role] = _borrow(reference, bundle.card, settings, device)
    with _blamed_on(key):
        return _serve(name, bundle, model, borrowed, device)


def _serve(
    name: str,
    bundle: Bundle,
    model: ModelSettings,
    borrowed: Mapping[str, nn.Module],
    device: torch.device,
) -> ServedModel:
    card = bundle.card
    victim = load_victim(bundle, device)
    own = {
        role: _load(bundle, role, device)
        for role in sorted(_roles(model) - borrowed.keys())
        if role in card.networks and role != VICTIM
    }
    interpreter = build_interpreter(model.explanations, victim)
    networks = {VICTIM: victim.module(0), **own, **borrowed}
    codebooks = {kind: bundle.codebook(kind, device) for kind in card.codebooks}
    material = Material(card, networks, interpreter, codebooks)

    def behind(specs: Sequence[Mapping[str, Any]]) -> ServedModel:
        chain = build_chain(specs, material)
        served = ServedModel(name, card.version, card, victim, chain)
        if model.explanations is None:
            return served
        explainer = build_explainer(model.explanations, victim, chain, card.input.shape)
        return replace(served, explainer=explainer, explanation_cost=model.explanations.cost)

    served = behind(model.defenses)
    if model.tighten is None:
        return served
    with _of_the_stricter_chain():
        tightened = behind(model.tighten)
    if repr(tightened.chain) == repr(served.chain):
        raise ConfigurationError("tighten: this is the chain that everybody is answered through")
    return replace(served, tightened=tightened)


def _roles(model: ModelSettings) -> frozenset[str]:
    return required_roles(model.defenses) | _required_when_tightened(model)


def _required_when_tightened(model: ModelSettings) -> frozenset[str]:
    with _of_the_stricter_chain():
        return required_roles(model.tighten or ())


def _borrow(reference: str, card: Card, settings: Settings, device: torch.device) -> nn.Module:
    """The network ``NAME[/VERSION]#ROLE``, if it fits the bundle whose weights answer."""
    place, separator, role = reference.partition("#")
    if not separator or not role:
        raise ConfigurationError(f"{reference!r} is no network: write NAME/VERSION#ROLE")
    path = resolve_bundle(settings.model_dir, place)
    lender = open_bundle(path, allow_factories=settings.allow_factories)
    if lender.card.input.shape != card.input.shape:
        raise ConfigurationError(
            f"{reference} is shown {_shape(lender.card)} images and {card.name}/{card.version} "
            f"{_shape(card)} images"
        )
    if lender.card.labels != card.labels:
        raise ConfigurationError(
            f"{reference} and {card.name}/{card.version} have different labels"
        )
    return _load(lender, role, device)


def _load(bundle: Bundle, role: str, device: torch.device) -> nn.Module:
    network = bundle.load(role, device)
    outputs = bundle.card.networks[role].outputs
    if outputs != bundle.card.classes:
        raise ConfigurationError(
            f"network {role!r} of {bundle.card.name}/{bundle.card.version} has {outputs} outputs "
            f"and its bundle {bundle.card.classes} labels"
        )
    return network


@contextmanager
def _blamed_on(key: str) -> Iterator[None]:
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
def _of_the_stricter_chain() -> Iterator[None]:
    """Name places in ``tighten`` as such: a chain calls its own ``defenses``."""
    try:
        yield
    except DefenseError as error:
        raise ConfigurationError(str(error).replace("defenses[", "tighten[")) from error


def _shape(card: Card) -> str:
    return "x".join(map(str, card.input.shape))


def _log(model: ServedModel) -> None:
    """Say what is served, whose weights those are, and what about it an operator may not want."""
    training = model.card.networks[VICTIM].training
    objective = "unknown" if training is None else training.objective
    title = f"{model.name} version {model.version}"
    logger.info(
        "serving %s: weights %s (objective: %s), defenses: %r",
        *(title, model.weights, objective, model.chain),
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
            *(title, role),
        )
