"""From the operator's word on attribution maps to what makes them, or one sentence why not."""

from __future__ import annotations

from defenses.chain import Chain
from defenses.explanations import Explainer
from models import explain
from models.errors import ExplanationError
from models.explain import Interpreter
from models.victim import Victim
from server.errors import ConfigurationError
from server.settings import ExplanationSettings

__all__ = ["build_explainer", "build_interpreter"]


def build_interpreter(settings: ExplanationSettings | None, victim: Victim) -> Interpreter | None:
    """What a defense that changes maps has to know of how they are made; None where none are.

    Raises:
        ConfigurationError: the victim has no such layer; begins with ``explanations: ``.
    """
    if settings is None:
        return None
    try:
        return explain.build_interpreter(
            settings.interpreter, victim.module(0), layer=settings.layer
        )
    except ExplanationError as error:
        raise ConfigurationError(f"explanations: {error}") from error


def build_explainer(
    settings: ExplanationSettings, victim: Victim, chain: Chain, shape: tuple[int, int, int]
) -> Explainer:
    """What makes the maps of images ``(C, H, W)``.

    Raises:
        ConfigurationError: the victim cannot be explained in this way, or nothing covers the maps
            and the operator has not said that this is meant; begins with ``explanations: ``.
    """
    try:
        explainer = Explainer(settings.interpreter, victim, chain, layer=settings.layer)
        explainer.size(shape)
        explainer.extent(shape)
    except ExplanationError as error:
        raise ConfigurationError(f"explanations: {error}") from error
    if not explainer.covered and not settings.unprotected:
        raise ConfigurationError(
            f"explanations: no defense of the chain ({chain.name}) covers attribution maps, and "
            "they would show what the victim looks at: add one that does, such as am, or set "
            "explanations.unprotected: true"
        )
    return explainer
