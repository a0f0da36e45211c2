"""What can be found wrong before the first query, and must be: queries are not given back."""

from __future__ import annotations

from dataclasses import replace

from attack_client.clone import CloneRecipe, build_clone
from attack_client.errors import AttackError
from attack_client.reference import split_seed_of
from models.card import Card, Normalisation
from models.training.schedule import drop_beyond

__all__ = [
    "check_clone",
    "check_epochs",
    "check_holdout",
    "check_schedule",
    "choose_split_seed",
    "in_epochs",
]


def in_epochs(recipe: CloneRecipe, per_epoch: int | None) -> CloneRecipe:
    """``recipe`` for an attack with ``per_epoch`` new images in every epoch.

    It has as many epochs as the budget pays for, whatever the recipe says.

    Raises:
        AttackError: it holds out answers to choose an epoch by.
    """
    if per_epoch is None:
        return recipe
    try:
        return replace(recipe, per_epoch=per_epoch)
    except ValueError as error:
        raise AttackError(str(error)) from error


def check_epochs(recipe: CloneRecipe, budgets: tuple[int, ...], *, adapted: bool = False) -> None:
    """Refuse budgets that are no whole number of epochs, where every epoch has its own images.

    Args:
        recipe: of the clones.
        budgets: in queries.
        adapted: whether add-ons stand between what is asked and what is learnt from.

    Raises:
        AttackError: names the first such budget; or the answers are not learnt from as they came.
    """
    if recipe.per_epoch is not None:
        if adapted:
            raise AttackError(
                "add-ons change which answers there are, and an attack with new images in every "
                "epoch counts on them: leave out the add-ons, or per_epoch"
            )
        for budget in budgets:
            if budget % recipe.per_epoch:
                raise AttackError(
                    f"a budget of {budget} queries is not a whole number of epochs of "
                    f"{recipe.per_epoch} new images: choose another --budget or per_epoch"
                )


def check_holdout(recipe: CloneRecipe, budgets: tuple[int, ...], *, per_image: int = 1) -> None:
    """Refuse a share of the answers that is none of them.

    Args:
        recipe: of the clones.
        budgets: in queries.
        per_image: queries that an image costs under add-ons.

    Raises:
        AttackError: the smallest of ``budgets`` holds out no answer.
    """
    smallest = min(budgets)
    if recipe.holdout and not recipe.held(smallest // per_image):
        raise AttackError(
            f"a holdout of {recipe.holdout:g} of a budget of {smallest} queries holds out no "
            "answer: raise --holdout or --budget, or hold out nothing"
        )


def check_schedule(recipe: CloneRecipe, budgets: tuple[int, ...], *, per_image: int = 1) -> None:
    """Refuse a learning rate that would drop after the last epoch of a clone: that is, never.

    Args:
        recipe: of the clones.
        budgets: in queries.
        per_image: queries that an image costs under add-ons.

    Raises:
        AttackError: names the drop and the epochs.
    """
    for budget in budgets:
        images = max(1, budget // per_image)
        epochs = recipe.plan(images - recipe.held(images), seed=0).epochs
        beyond = drop_beyond(recipe.schedule, epochs)
        if beyond is not None:
            option, drop = beyond
            longer = "--epochs" if recipe.per_epoch is None else "--budget"
            raise AttackError(
                f"schedule.{option} of the recipe: the learning rate is to drop after {drop} "
                f"epochs, but a clone is trained for {epochs}: raise {longer}, or choose another "
                "--recipe"
            )


def check_clone(recipe: CloneRecipe, *, shape: tuple[int, int, int], classes: int) -> None:
    """Build a clone once and throw it away.

    Raises:
        ModelsError: it cannot be built for images ``(C, H, W)`` and that many classes.
    """
    channels = shape[0]
    grey = Normalisation(mean=(0.5,) * channels, std=(0.5,) * channels)
    build_clone(recipe, shape=shape, classes=classes, normalisation=grey, seed=0)


def choose_split_seed(given: int | None, *, test: str, reference: Card | None) -> int:
    """The seed of datasets that come without a split, so that nothing tested was trained on.

    Args:
        given: what the caller asks for; None leaves it to the reference, and 0 without one.
        test: name of the test set.
        reference: card of the plain model of the victim.

    Raises:
        AttackError: ``given`` would test on what the reference was trained on.
    """
    stated = None if reference is None else split_seed_of(reference)
    if given is None or stated is None:
        return given if given is not None else stated or 0
    training = None if reference is None else reference.networks["victim"].training
    if training is not None and training.data == test and given != stated:
        raise AttackError(
            f"--split-seed is {given}, but the reference was trained on {test} split by "
            f"{stated}: some of the test images would be its training images"
        )
    return given
