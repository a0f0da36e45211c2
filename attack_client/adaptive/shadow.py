"""A shadow service: the attacker's own copy of what the victim runs, defended and not."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from attack_client.adaptive.contract import ShadowAnswers
from attack_client.contract import BlackBox, VictimFacts
from attack_client.errors import AdaptationError, ProtocolError
from attack_client.http_victim import HttpVictim
from attack_client.retry import RetryPolicy

__all__ = ["ShadowService", "ask_shadow"]

BATCH = 64


@dataclass(frozen=True, slots=True)
class ShadowService:
    """Two served models with the attacker's own weights: one behind the defense, one behind none.

    Attributes:
        url: of the service.
        defended: name of the served model whose answers pass through the defense.
        plain: name of the served model with the same weights and no defense.
        api_key: of the service.
        timeout_s: for connecting, and for every read and write.
        patience_s: waits between the attempts of one request; None is as ``HttpVictim`` does.
        softmax: both answer with logits.
    """

    url: str
    defended: str
    plain: str
    api_key: str | None = field(default=None, repr=False)
    timeout_s: float = 60.0
    patience_s: float | None = None
    softmax: bool = False

    async def check(self, facts: VictimFacts) -> None:
        """Refuse a shadow that cannot be the victim's.

        Raises:
            AdaptationError: it takes other images, or knows other classes.
            VictimError: it does not answer.
        """
        for name in (self.defended, self.plain):
            async with self._model(name) as model:
                shadow = model.facts
            if (shadow.shape, shadow.classes) != (facts.shape, facts.classes):
                raise AdaptationError(
                    f"the shadow {name} classifies images of {shadow.shape} into "
                    f"{shadow.classes} classes, the victim images of {facts.shape} into "
                    f"{facts.classes}"
                )

    async def ask(self, images: NDArray[np.uint8]) -> ShadowAnswers:
        """Answers of both models to ``images`` ``(n, C, H, W)``.

        Raises:
            VictimError: the service does not answer, or in another form than ``softmax`` says.
        """
        async with self._model(self.defended) as defended, self._model(self.plain) as plain:
            try:
                return await ask_shadow(defended, plain, images)
            except ProtocolError as error:
                if "--softmax" not in str(error):
                    raise
                # That is the flag of the victim, whose answers are on disk; these are not.
                told = (
                    "are probabilities already: leave out"
                    if self.softmax
                    else ("are no probabilities: if they are logits, add")
                )
                raise ProtocolError(
                    f"the answers of the shadow {told} --shadow-softmax, and go on with --resume"
                ) from error

    def _model(self, name: str) -> HttpVictim:
        return HttpVictim(
            self.url,
            name,
            api_key=self.api_key,
            timeout_s=self.timeout_s,
            softmax=self.softmax,
            retry=RetryPolicy().for_as_long_as(self.patience_s),
        )


async def ask_shadow(
    defended: BlackBox, plain: BlackBox, images: NDArray[np.uint8]
) -> ShadowAnswers:
    """What two open models say of ``images``; the attacker pays for none of it.

    Args:
        defended: behind the defense.
        plain: the same weights behind none.
        images: ``(n, C, H, W)`` uint8.

    Raises:
        VictimError: one of them does not answer.
    """
    said: list[NDArray[np.float32]] = []
    for model in (defended, plain):
        batch = model.facts.images_per_request(BATCH)
        parts = [
            (await model.query(images[start : start + batch])).probabilities
            for start in range(0, len(images), batch)
        ]
        said.append(np.concatenate(parts))
    return ShadowAnswers(defended=said[0], plain=said[1])
