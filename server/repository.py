"""From a directory of bundles and the configuration to what is served, or one sentence why not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from models.bundle.finding import version_key
from models.card import Card
from server.assembly import assemble, log_served
from server.errors import ConfigurationError
from server.ingredients import Order, blamed_on, gather
from server.library import Library
from server.served import ServedModel
from server.settings import ModelSettings, Settings
from server.settings_sections import PUBLIC
from server.weights import Weights

__all__ = ["load_models", "log_all", "place_orders"]


def load_models(
    settings: Settings, device: torch.device, weights: Weights | None = None
) -> tuple[ServedModel, ...]:
    """Load what is served, onto ``device``: by name, then oldest version first, then by tier.

    Without ``settings.models`` that is every version of every bundle, undefended; with it exactly
    the names it lists, each behind its chains. What is served is logged, with whose weights.

    Args:
        settings: the configuration.
        device: where it shall compute.
        weights: remembers which networks are loaded onto that device; None: nobody need.

    Raises:
        ConfigurationError: a bundle or chain cannot be served; names the key.
    """
    weights = Weights(device) if weights is None else weights
    # All of it before the first model is made: what two of them need is then loaded once.
    gathered = [gather(order, weights) for order in place_orders(settings)]
    served = tuple(assemble(ingredients) for ingredients in gathered)
    log_all(served)
    return served


def log_all(served: Sequence[ServedModel]) -> None:
    """Say of each model what is served."""
    tiered = {model.name for model in served if model.tier != PUBLIC}
    for model in served:
        log_served(model, tiers=model.name in tiered)


def place_orders(settings: Settings, only: str | None = None) -> tuple[Order, ...]:
    """What ``settings`` want served, looked up and checked, nothing of it loaded.

    Args:
        settings: the configuration.
        only: one served name; default: all of them.

    Raises:
        ConfigurationError: there is no such bundle, or it cannot be served so; names the key.
    """
    library = Library(settings)
    if settings.models:
        orders = [
            order
            for name in sorted(settings.models)
            if only in (None, name)
            for order in _configured(name, settings.models[name], library)
        ]
    else:
        orders = list(_undefended(library, only))
    if not orders and only is None:
        raise ConfigurationError(f"model_dir: there is no bundle NAME/VERSION under {library.root}")
    return tuple(orders)


def _undefended(library: Library, only: str | None) -> Iterator[Order]:
    offer = ModelSettings()
    for path in library.find(only):
        name, version = path.parent.name, path.name
        with blamed_on("model_dir"):
            bundle = library.open(f"{name}/{version}")
        yield Order.place(
            "model_dir",
            name=name,
            version=version,
            tier=PUBLIC,
            offer=offer,
            bundle=bundle,
            library=library,
        )


def _configured(name: str, model: ModelSettings, library: Library) -> Iterator[Order]:
    key = f"models.{name}"
    shown: list[str] = []
    for version in _versions(name, model, library):
        public: Order | None = None
        for tier, offer in model.offers.items():
            place = _place(key, model, tier)
            reference = offer.victim or name
            with blamed_on(f"{place}.victim"):
                bundle = library.open(reference if version is None else f"{reference}/{version}")
            order = Order.place(
                place,
                name=name,
                version=bundle.card.version if public is None else public.version,
                tier=tier,
                offer=offer,
                bundle=bundle,
                library=library,
            )
            if public is None:
                public = order
                shown.append(order.version)
            else:
                _check_alike(order, public)
            yield order
    if model.default_version not in (None, *shown):
        raise ConfigurationError(
            f"{key}.default_version: {model.default_version} is not served: there is "
            f"{', '.join(shown)}"
        )


def _versions(name: str, model: ModelSettings, library: Library) -> Sequence[str | None]:
    """The versions to serve; None: the one that each tier's ``victim`` names, or its highest."""
    if model.versions == ("latest",):
        return [None]
    key = f"models.{name}"
    for tier, offer in model.offers.items():
        if "/" in (offer.victim or ""):
            raise ConfigurationError(
                f"{_place(key, model, tier)}.victim: {offer.victim} names a version, and so does "
                f"{key}.versions"
            )
    if model.versions != ("all",):
        return sorted(set(model.versions), key=version_key)
    bundle = model.offers[PUBLIC].victim or name
    with blamed_on(f"{_place(key, model, PUBLIC)}.victim"):
        library.open(bundle)
    return [path.name for path in library.find(bundle)]


def _place(key: str, model: ModelSettings, tier: str) -> str:
    return f"{key}.tiers.{tier}" if model.tiers else key


def _check_alike(order: Order, public: Order) -> None:
    """Refuse a tier that could be told from another by what it takes and what it says."""
    ours, theirs = order.bundle.card, public.bundle.card
    for what, same in (
        ("is shown other images", ours.input == theirs.input),
        ("has other labels", ours.labels == theirs.labels),
    ):
        if not same:
            raise ConfigurationError(
                f"{order.key}.victim: {_title(ours)} {what} than {_title(theirs)}, which answers "
                f"the tier {PUBLIC}"
            )


def _title(card: Card) -> str:
    return f"{card.name}/{card.version}"
