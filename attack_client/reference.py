"""The plain model beside the victim: what is lost and kept is measured from it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from attack_client.errors import PoolError
from attack_client.predictions import predict
from attack_client.victim_input import TestSet
from models.bundle import Bundle, open_bundle
from models.card import Card

__all__ = ["Reference", "check_fits", "check_labels", "label_difference", "split_seed_of"]


def check_fits(card: Card, *, shape: tuple[int, ...], classes: int) -> None:
    """Refuse a plain model that cannot be the victim's.

    Raises:
        PoolError: it takes other images than ``shape`` ``(C, H, W)`` or knows other classes.
    """
    if card.input.shape != shape or card.classes != classes:
        raise PoolError(
            f"the reference {card.name} classifies images of {card.input.shape} into "
            f"{card.classes} classes, the victim images of {shape} into {classes}"
        )


def check_labels(card: Card, labels: Sequence[str], *, test: str) -> None:
    """Refuse a test set whose classes are others than a model's, or numbered otherwise.

    Where either says no more than numbers, nothing is known of their order. Capital letters and
    space around a name make no other class of it.

    Args:
        card: of the model.
        labels: names of the classes of the test set, K of them.
        test: what it was asked for as.

    Raises:
        PoolError: both have names, and these differ.
    """
    ours, theirs = _plain(labels), _plain(card.labels)
    alike = set(ours) == set(theirs)
    numbered = _numbered(labels) or _numbered(card.labels)
    if ours != theirs and (alike or not numbered):
        said = label_difference(test, labels, card.name, card.labels)
        if not alike and len(labels) == card.classes:
            said += "; if that is the same class by another name, give a test set without names"
        raise PoolError(said)


def label_difference(data: str, labels: Sequence[str], model: str, known: Sequence[str]) -> str:
    """A sentence on what sets the ``labels`` of ``data`` apart from those that ``model`` has."""
    order = set(labels) == set(known) or (
        _plain(labels) != _plain(known) and set(_plain(labels)) == set(_plain(known))
    )
    what = "the labels of {} in another order" if order else "other labels than {}"
    told = f"{data} has {what.format(model)}"
    if len(labels) != len(known):
        return f"{told}: {len(labels)} in the one, {len(known)} in the other"
    pairs = [*zip(_plain(labels), _plain(known), strict=True)]
    pairs = (
        pairs if any(one != other for one, other in pairs) else [*zip(labels, known, strict=True)]
    )
    place = next(n for n, (one, other) in enumerate(pairs) if one != other)
    return f"{told}: class {place} is {labels[place]!r} in the one, {known[place]!r} in the other"


def _plain(labels: Sequence[str]) -> tuple[str, ...]:
    return tuple(label.strip().casefold() for label in labels)


def _numbered(labels: Sequence[str]) -> bool:
    return tuple(labels) == tuple(map(str, range(len(labels))))


def split_seed_of(card: Card) -> int | None:
    """The seed that split the data into what the victim was trained on and its test set.

    None where the card does not tell: the weights came from elsewhere.
    """
    victim = card.networks.get("victim")
    data = None if victim is None or victim.training is None else victim.training.recipe.get("data")
    seed = data.get("split_seed") if isinstance(data, dict) else None
    return seed if type(seed) is int and 0 <= seed < 2**32 else None


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """The plain model (same architecture and recipe, no defense) on the test set.

    Attributes:
        probabilities: ``(N, K)`` float32, not canonicalised.
    """

    probabilities: NDArray[np.float32]

    @classmethod
    def of(cls, bundle: Bundle, test: TestSet, *, device: torch.device | str = "cpu") -> Reference:
        """Run the ``victim`` of ``bundle`` on ``test``.

        Raises:
            ModelsError: the bundle holds no such network, or one that cannot be loaded.
            PoolError: it takes other images or knows other classes.
        """
        check_fits(bundle.card, shape=test.images.shape[1:], classes=test.classes)
        return cls(predict(bundle.load("victim", device), test.images, device=device))

    @classmethod
    def from_bundle(
        cls,
        path: Path,
        test: TestSet,
        *,
        allow_factories: Collection[str] = (),
        device: torch.device | str = "cpu",
    ) -> Reference:
        """As ``of``, for the bundle at ``path``.

        Args:
            path: the directory ``NAME/VERSION``.
            test: what it is shown.
            allow_factories: factories that its card may name.
            device: where it runs.

        Raises:
            ModelsError: the bundle cannot be opened.
            PoolError: it takes other images or knows other classes.
        """
        return cls.of(open_bundle(path, allow_factories=allow_factories), test, device=device)
