"""What callers have asked: budgets and idempotency keys, in one step that nothing comes between.

A charge is counted before anything is computed, and ends in one of three ways: *settled* (it was
answered), *given back* (it failed, and the caller is not to blame), or *left* (the caller hung up,
or its own deadline passed).
A request that was sent before is found by its idempotency key, in the same step.
"""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import dataclass, field
from typing import Protocol

from server.admission import Allowance, Once
from server.errors import CallerOverLimit

__all__ = [
    "DAY_S",
    "Again",
    "Charge",
    "Charged",
    "Ledger",
    "Outcome",
    "Pending",
    "Stored",
    "Used",
    "over_budget",
]

DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class Charge:
    """Samples that a caller is to be charged.

    Attributes:
        identity: whom.
        samples: how many.
        allowance: at most so many by day and for good.
        once: the caller's name for the request, if it gave one.
        id: of this charge; a charge is counted once, and given back once, under this name.
    """

    identity: str
    samples: int
    allowance: Allowance
    once: Once | None = None
    id: str = field(default_factory=lambda: uuid.uuid4().hex)

    @property
    def place(self) -> str | None:
        """Where the request is remembered: a digest, since callers choose their keys."""
        if self.once is None:
            return None
        return hashlib.sha256(self.once.key.encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class Charged:
    """The samples were counted.

    Attributes:
        today: samples of the caller since midnight UTC, these included.
        lifetime: samples of the caller ever.
    """

    today: int
    lifetime: int


@dataclass(frozen=True, slots=True)
class Again:
    """The request was charged before, and there is no answer to give: compute it again.

    Attributes:
        id: of the charge that paid for it.
        paid: whether it was answered before, so that nothing is given back if it fails now.
    """

    id: str
    paid: bool


@dataclass(frozen=True, slots=True)
class Stored:
    """The request was answered before, with this."""

    answer: bytes


@dataclass(frozen=True, slots=True)
class Pending:
    """The request is being answered, here or elsewhere.

    Attributes:
        wait_s: after which it may be taken for lost, and answered by somebody else.
    """

    wait_s: float


Outcome = Charged | Again | Stored | Pending


@dataclass(frozen=True, slots=True)
class Used:
    """What a caller has asked, in samples.

    Attributes:
        today: since midnight UTC.
        lifetime: ever, as far as it is remembered.
        day: of ``today``, counted from the epoch.
    """

    today: int
    lifetime: int
    day: int


class Ledger(Protocol):
    """Where charges are counted.

    A request with an idempotency key belongs to one attempt at a time, whose ``charge`` is what its
    end is told of; what it costs was ``paid_by`` that of the first. An attempt that another one has
    taken over, or that is told of twice, takes nothing from the other.
    """

    async def charge(self, charge: Charge) -> Outcome:
        """Count ``charge``, or find out that it was counted under its idempotency key.

        Raises:
            CallerOverLimit: over a budget; nothing was counted.
            Conflict: the idempotency key belongs to another request.
            StoreAway: it cannot be counted now; whatever was counted is given back.
        """
        ...

    async def settle(self, charge: Charge, paid_by: str, answer: bytes | None) -> None:
        """It was answered, with ``answer`` for a replay if that is to be kept. Does not fail."""
        ...

    async def give_back(self, charge: Charge, paid_by: str) -> int:
        """Count it no more, however often this is asked. Does not fail: it is tried until done.

        Returns:
            Samples given back: none if it was answered, or belongs to another attempt by now. What
            cannot be told yet is taken for given back.
        """
        ...

    def leave(self, charge: Charge, paid_by: str) -> None:
        """Its caller did not wait for it: it stays counted, and a replay need not wait either."""
        ...

    async def used(self, identity: str) -> Used:
        """What a caller has asked.

        Raises:
            StoreAway: it cannot be told now.
        """
        ...

    async def start(self) -> None:
        """Open it.

        Raises:
            ConfigurationError: it cannot be used.
        """
        ...

    async def close(self) -> None:
        """Finish what is begun, and close it."""
        ...


def over_budget(
    charge: Charge, *, today: int, lifetime: int, until_midnight_s: float
) -> CallerOverLimit | None:
    """Why ``charge`` does not fit beside what was used, if it does not."""
    allowance, samples = charge.allowance, charge.samples
    if allowance.lifetime is not None and lifetime + samples > allowance.lifetime:
        # No Retry-After: waiting does not help.
        return CallerOverLimit(
            f"this API key may ask {allowance.lifetime} samples and has "
            f"{max(0, allowance.lifetime - lifetime)} left; this request counts as {samples}"
        )
    if allowance.per_day is not None and today + samples > allowance.per_day:
        return CallerOverLimit(
            f"this API key may ask {allowance.per_day} samples a day and has "
            f"{max(0, allowance.per_day - today)} left until midnight UTC; this request counts as "
            f"{samples}",
            retry_after=until_midnight_s,
        )
    return None
