"""How fast answers come of late, and so how long the next one will take."""

from __future__ import annotations

__all__ = ["Pace"]

OLD = 0.8
"""Weight of what was known before in each new estimate."""


class Pace:
    """Running means of the two things that a query waits for.

    The engine's time for a batch, and the event loop's delay in noticing that a batch is done:
    under a flood the loop is the slower of the two, and a forecast that left it out would accept
    what cannot be answered in time.

    Attributes:
        batch_s: seconds the engine takes for a batch; None before the first.
        delay_s: seconds the event loop takes to notice.
    """

    def __init__(self) -> None:
        self.batch_s: float | None = None
        self.delay_s = 0.0

    def computed(self, seconds: float) -> None:
        """A batch took the engine ``seconds``."""
        before = seconds if self.batch_s is None else self.batch_s
        self.batch_s = OLD * before + (1 - OLD) * seconds

    def noticed(self, seconds: float) -> None:
        """The event loop noticed a finished batch ``seconds`` after it was."""
        self.delay_s = OLD * self.delay_s + (1 - OLD) * seconds

    def forecast(self, batches: int) -> float:
        """Seconds until the last of ``batches`` is answered; 0 while nothing is known."""
        if self.batch_s is None:
            return 0.0
        # Once to deliver the answer, once for its request's own task to take it up.
        return batches * self.batch_s + 2 * self.delay_s
