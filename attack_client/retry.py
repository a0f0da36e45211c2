"""When to ask again, and after how long: a decision without clocks, sleeps or sockets."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import Enum

__all__ = ["Failure", "Outcome", "RetryPolicy", "retry_after_s"]

TOO_MANY_REQUESTS = 429

SKIPPED = 4
"""Doublings of the delay that a 429 without Retry-After begins with."""


class Outcome(Enum):
    """How an attempt failed."""

    STATUS = "status"
    """The victim answered with something other than 200."""
    LOST = "lost"
    """There was no connection, or it broke, or time ran out."""
    GARBLED = "garbled"
    """There was a 200 that is not an answer: a gateway's page, a body cut short."""


@dataclass(frozen=True, slots=True)
class Failure:
    """One failed attempt.

    Attributes:
        outcome: how it failed.
        status: HTTP status, where there was one.
        retry_after_s: what the victim asked for, in seconds.
    """

    outcome: Outcome
    status: int | None = None
    retry_after_s: float | None = None


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Exponential back-off with full jitter, which never comes back before Retry-After.

    Full jitter (a uniform share of the exponential delay) keeps many requests that failed
    together from coming back together.

    A 429 without Retry-After is either a budget that is used up for good, where asking again is
    asking in vain, or a rate limit of a server that does not say how long it lasts. So it is tried
    a few times only, further apart: all in all for about as long as anything else.

    Attributes:
        attempts: how often one request is sent at most.
        bare_attempts: the same where the last answer was a 429 without Retry-After.
        garbled_attempts: the same where the answers cannot be read. Each of them was probably
            charged, so this is small.
        base_s: the first delay is between 0 and this.
        cap_s: no back-off is longer; Retry-After may be.
        patience_s: all waiting for one request together; a Retry-After beyond it gives up now.
        statuses: HTTP statuses that may go away by themselves.
    """

    attempts: int = 8
    bare_attempts: int = 4
    garbled_attempts: int = 2
    base_s: float = 0.2
    cap_s: float = 20.0
    patience_s: float = 300.0
    statuses: frozenset[int] = frozenset({429, 502, 503, 504})

    def __post_init__(self) -> None:
        if min(self.attempts, self.bare_attempts, self.garbled_attempts) < 1:
            raise ValueError("attempts, bare_attempts and garbled_attempts must be at least 1")
        if not 0 <= self.base_s <= self.cap_s or self.patience_s < 0:
            raise ValueError("0 <= base_s <= cap_s and 0 <= patience_s are needed")

    def for_as_long_as(self, patience_s: float | None) -> RetryPolicy:
        """The same with waits of ``patience_s`` together, in however many attempts; None: itself.

        Answers that cannot be read are no matter of patience: they stay at ``garbled_attempts``.
        """
        if patience_s is None:
            return self
        return replace(self, attempts=sys.maxsize, bare_attempts=sys.maxsize, patience_s=patience_s)

    def delay_s(
        self, failure: Failure, *, attempt: int, waited_s: float, draw: float
    ) -> float | None:
        """Seconds to wait before the next attempt, or None to give up.

        Args:
            failure: what just happened.
            attempt: how often the request was sent so far; at least 1.
            waited_s: waited between attempts so far.
            draw: uniform in [0, 1).
        """
        if failure.outcome is Outcome.STATUS and failure.status not in self.statuses:
            return None
        bare = failure.status == TOO_MANY_REQUESTS and failure.retry_after_s is None
        limit = self.bare_attempts if bare else self.attempts
        if failure.outcome is Outcome.GARBLED:
            limit = self.garbled_attempts
        if attempt >= min(limit, self.attempts):
            return None
        doublings = attempt - 1 + (SKIPPED if bare else 0)
        # The exponent is bounded because 2.0**1024 is an error, and the cap is reached long before.
        delay = draw * min(self.cap_s, self.base_s * 2.0 ** min(doublings, 60))
        if failure.retry_after_s is not None:
            delay = failure.retry_after_s + draw * self.base_s
        return delay if waited_s + delay <= self.patience_s else None


def retry_after_s(value: str | None, *, now: datetime | None = None) -> float | None:
    """Seconds of a Retry-After header: a number of seconds or an HTTP date (RFC 9110, 10.2.3).

    Returns:
        At least 0; None where there is no header or it cannot be read.
    """
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.replace(".", "", 1).isdigit():
        return float(text)
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    return max(0.0, (date - (now or datetime.now(UTC))).total_seconds())
