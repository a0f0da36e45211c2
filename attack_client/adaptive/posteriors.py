"""Posteriors that a victim may have meant: what a known defense is tried on."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from attack_client.checked_numbers import finite_number

__all__ = ["anywhere", "around", "check_around", "nearby"]

LEAST = 1e-2
"""Added to every parameter of a Dirichlet: a class that was served as zero may have been likely."""


def anywhere(count: int, classes: int, generator: np.random.Generator) -> NDArray[np.float32]:
    """Posteriors ``(count, K)`` of every sharpness: Dirichlet(a, ..., a), a log-uniform.

    a runs from 1/1000, where one class has nearly everything, to 10, where all are about equal.
    """
    shape = 10.0 ** generator.uniform(-3.0, 1.0, size=(count, 1))
    return _dirichlet(np.broadcast_to(shape, (count, classes)), generator)


def check_around(*, concentration: float, reach: float) -> None:
    """Refuse what ``around`` cannot draw with.

    Raises:
        ValueError: names the option and its limits.
    """
    if not finite_number("concentration", concentration) > 0.0:
        raise ValueError(f"concentration must be above 0, not {concentration}")
    if not 0.0 <= finite_number("reach", reach) <= 6.0:
        raise ValueError(f"reach must be between 0 and 6, not {reach}")


def around(
    observed: NDArray[np.float32],
    count: int,
    generator: np.random.Generator,
    *,
    concentration: float = 8.0,
    reach: float = 0.0,
) -> NDArray[np.float32]:
    """Posteriors ``(count, K)`` around what was observed, as many around each row.

    Dirichlets of concentration ``8 K`` centred on the observed answers are ModelGuard's authors'
    choice. A defense that flattens answers leaves what the victim said far outside of them, so
    with a ``reach`` the centres are ``r^(2^e)`` over their sum, e uniform from -1 to ``reach``,
    and half of the samples scatter in their logarithms instead.

    Args:
        observed: ``(M, K)``, not negative; rows need not sum to 1.
        count: samples in all.
        generator: of the draws.
        concentration: of a Dirichlet, divided by K.
        reach: octaves of sharpening; 0 is the original.
    """
    rows = observed[np.arange(count) % len(observed)].astype(np.float64)
    classes = rows.shape[1]
    rows /= np.maximum(rows.sum(axis=1, keepdims=True), 1e-12)
    scattered = np.zeros(count, dtype=bool)
    if reach > 0.0:
        exponents = 2.0 ** generator.uniform(-1.0, reach, size=(count, 1))
        logits = exponents * np.log(np.maximum(rows, 1e-5))
        scattered = generator.random(count) < 0.5
        logits[scattered] += generator.normal(size=(int(scattered.sum()), classes))
        rows = _softmax(logits)
    drawn = rows.astype(np.float32)
    centred = ~scattered
    drawn[centred] = _dirichlet(concentration * classes * rows[centred] + LEAST, generator)
    return drawn


def nearby(
    posteriors: NDArray[np.float32], count: int, generator: np.random.Generator, *, scale: float
) -> NDArray[np.float32]:
    """Each of ``posteriors`` ``(n, K)``, then ``count - 1`` like it: ``(n, count, K)``.

    Their logarithms are normal around its own, with a deviation of ``scale``.
    """
    rows, classes = posteriors.shape
    logs = np.log(np.maximum(posteriors.astype(np.float64), 1e-7))
    noise = scale * generator.normal(size=(rows, count, classes))
    drawn = _softmax((logs[:, np.newaxis] + noise).reshape(-1, classes))
    found = drawn.reshape(rows, count, classes).astype(np.float32)
    found[:, 0] = posteriors
    return found


def _dirichlet(shape: NDArray[np.float64], generator: np.random.Generator) -> NDArray[np.float32]:
    """One draw per row of parameters ``(n, K)``, in logarithms: a small one underflows.

    ``Gamma(a) = Gamma(a + 1) U^(1/a)`` in distribution.
    """
    logs = np.log(generator.standard_gamma(shape + 1.0))
    logs += np.log1p(-generator.random(shape.shape)) / shape
    return _softmax(logs).astype(np.float32)


def _softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=1, keepdims=True))
