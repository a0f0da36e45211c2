"""A defense that the attacker knows, as a function that the attacker names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attack_client.adaptive.contract import Posteriors
from attack_client.errors import AdaptationError
from models.architectures.factory import load_factory
from models.errors import ModelsError

__all__ = ["KnownDefense"]


@dataclass(frozen=True, slots=True)
class KnownDefense:
    """Where the function comes from: this package has no defense of its own.

    Attributes:
        factory: ``package.module:factory`` or ``file.py:factory``; called as
            ``factory(classes=K, **options)``, it returns the function. Naming one runs its code.
        options: keyword arguments of the factory.
    """

    factory: str
    options: Mapping[str, Any] = field(default_factory=dict)

    def load(self, classes: int) -> Posteriors:
        """The function, tried on two answers and checked at every use.

        Raises:
            AdaptationError: it cannot be imported, made or called, or does not answer ``(n, K)``.
        """
        try:
            made = load_factory(self.factory)(classes=classes, **self.options)
        except ModelsError as error:
            reason = str(error).removeprefix("architecture ")
            raise AdaptationError(f"--known-defense: {reason}") from error
        except Exception as error:
            raise AdaptationError(f"--known-defense {self.factory}: {error}") from error
        if not callable(made):
            raise AdaptationError(f"--known-defense {self.factory} did not return a function")

        def defense(posteriors: NDArray[np.float32]) -> NDArray[np.float32]:
            try:
                served = np.asarray(made(posteriors), dtype=np.float32)
            except Exception as error:
                raise AdaptationError(f"--known-defense {self.factory}: {error}") from error
            if served.shape != posteriors.shape or not np.isfinite(served).all():
                raise AdaptationError(
                    f"--known-defense {self.factory} must answer finite numbers of shape "
                    f"{posteriors.shape}, not {served.shape}"
                )
            return served

        even = np.full((2, classes), 1.0 / classes, dtype=np.float32)
        even[1] = np.eye(classes, dtype=np.float32)[0]
        defense(even)
        return defense
