"""A grant that is paid for out of a budget."""

from __future__ import annotations

from server.admission import Grant
from server.callers.ledger import Charge, Ledger

__all__ = ["AnsweredBefore", "PaidGrant"]


class PaidGrant(Grant):
    """Samples that a ledger has counted.

    Args:
        ledger: that counted them.
        charge: what was to be counted for this request.
        paid_by: id of the charge that pays: this one, or that of the same request before.
        paid: whether the request was answered before, so that a failure gives nothing back.
    """

    def __init__(
        self, ledger: Ledger, charge: Charge, *, paid_by: str | None = None, paid: bool = False
    ) -> None:
        self.replayed = paid_by is not None
        self.keeps = charge.once is not None
        self.balance = 0 if self.replayed else charge.samples
        self._ledger = ledger
        self._charge = charge
        self._paid_by = paid_by or charge.id
        self._paid = paid

    async def answered(self, answer: bytes | None) -> None:
        """See ``Grant``."""
        await self._ledger.settle(self._charge, self._paid_by, answer)

    async def unanswered(self) -> None:
        """See ``Grant``."""
        if self._paid:
            self._ledger.leave(self._charge, self._paid_by)
        else:
            # Taken for given back while that is not known: whoever hangs up now is audited so.
            began, self.balance = self.balance, self.balance - self._charge.samples
            self.balance = began - await self._ledger.give_back(self._charge, self._paid_by)

    def left(self) -> None:
        """See ``Grant``."""
        self._ledger.leave(self._charge, self._paid_by)


class AnsweredBefore(Grant):
    """Nothing is to be counted, and nothing to be computed.

    Args:
        answer: what the request was answered.
    """

    replayed = True

    def __init__(self, answer: bytes) -> None:
        self.stored = answer
