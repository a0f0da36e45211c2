"""Add-ons by name: ours, and those of installed packages."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from importlib.metadata import entry_points

from attack_client.adaptive.accounts import Accounts
from attack_client.adaptive.augmentation_averaging import AugmentationAveraging
from attack_client.adaptive.contract import AddOn, Answering, Asking, Training
from attack_client.adaptive.filter_confidence import FilterConfidence
from attack_client.adaptive.near_distribution import NearDistribution
from attack_client.adaptive.partial_bayes import PartialBayes
from attack_client.adaptive.recover import DirichletRecover, Recover
from attack_client.adaptive.repeat_averaging import RepeatAveraging
from attack_client.adaptive.semi_supervised import SemiSupervised
from attack_client.adaptive.sharpen import Sharpen
from attack_client.adaptive.sparse_repair import SparseRepair
from attack_client.adaptive.spec import Spec
from attack_client.errors import AdaptationError

__all__ = ["GROUP", "kinds", "make"]

GROUP = "intaglio.adaptations"
"""Entry point group in which a package announces its add-ons, by kind."""

BUILT_IN: dict[str, type[AddOn]] = {
    add_on.kind: add_on
    for add_on in (
        Accounts,
        AugmentationAveraging,
        DirichletRecover,
        FilterConfidence,
        NearDistribution,
        PartialBayes,
        Recover,
        RepeatAveraging,
        SemiSupervised,
        Sharpen,
        SparseRepair,
    )
}


def kinds() -> Mapping[str, type[AddOn]]:
    """Every add-on by kind. Ours cannot be replaced by an installed package.

    Raises:
        AdaptationError: an entry point is no add-on of its name.
    """
    found = dict(BUILT_IN)
    for entry in entry_points(group=GROUP):
        if entry.name in BUILT_IN:
            raise AdaptationError(f"entry point {entry.value} may not replace {entry.name!r}")
        loaded = entry.load()
        if not (isinstance(loaded, type) and issubclass(loaded, Asking | Answering | Training)):
            raise AdaptationError(f"entry point {entry.value} is not an add-on")
        if loaded.kind != entry.name:
            raise AdaptationError(
                f"entry point {entry.name!r} names the add-on {entry.value}, "
                f"which calls itself {loaded.kind!r}"
            )
        found[entry.name] = loaded
    return found


def make(spec: Spec, *, seed: int) -> AddOn:
    """The add-on that is asked for; ``seed`` goes to those that take one.

    Raises:
        AdaptationError: no such add-on, or it refuses an option; the sentence names it.
    """
    known = kinds()
    if spec.name not in known:
        raise AdaptationError(
            f"there is no add-on {spec.name!r}: there are {', '.join(sorted(known))}"
        )
    add_on = known[spec.name]
    takes = inspect.signature(add_on).parameters
    given = dict(spec.options)
    for name in given:
        if name not in takes:
            own = ", ".join(sorted(set(takes) - {"seed"})) or "none"
            raise AdaptationError(f"{spec.name} has no option {name!r}: there are {own}")
    if "seed" in takes:
        given.setdefault("seed", seed)
    try:
        return add_on(**given)
    except (TypeError, ValueError) as error:
        raise AdaptationError(f"{spec.name}: {error}") from error
