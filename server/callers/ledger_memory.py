"""The ledger of one process, in memory; a journal makes it outlive the process."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from server.callers.ledger import (
    DAY_S,
    Again,
    Charge,
    Charged,
    Outcome,
    Pending,
    Stored,
    Used,
    over_budget,
)
from server.callers.metrics import CallerMetrics
from server.errors import Conflict
from server.settings_callers import IdempotencySettings

__all__ = ["Account", "MemoryLedger", "Request"]


@dataclass(slots=True)
class Account:
    """What one caller has used.

    Attributes:
        lifetime: samples ever.
        day: of ``today``, counted from the epoch.
        today: samples of that day.
    """

    lifetime: int = 0
    day: int = 0
    today: int = 0

    def roll(self, day: int) -> None:
        """Begin ``day``, unless it has begun."""
        if day > self.day:
            self.day, self.today = day, 0

    def give_back(self, samples: int, day: int) -> None:
        """Take ``samples`` of ``day`` out of the count."""
        self.lifetime -= samples
        if day == self.day:
            self.today -= samples


@dataclass(slots=True)
class Request:
    """What is remembered of a request with an idempotency key.

    Attributes:
        print: digest of the request.
        charge: id of what paid for it.
        owner: id of the charge of the attempt that answers it, or did last.
        born: when it came first, in seconds since the epoch.
        working: whether somebody answers it now.
        paid: whether it was answered, or may have been.
        answer: what it was answered; None where that is not kept.
    """

    print: bytes
    charge: str
    owner: str
    born: float
    working: bool = True
    paid: bool = False
    answer: bytes | None = None


class MemoryLedger:
    """Budgets and requests in dictionaries. Belongs to one event loop, where every step is whole.

    Args:
        settings: how many requests are remembered, for how long, with how large answers.
        metrics: told what is given back.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        settings: IdempotencySettings,
        metrics: CallerMetrics,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._metrics = metrics
        self._clock = clock
        self.accounts: dict[str, Account] = {}
        self.open: dict[str, tuple[str, int, int]] = {}
        """Charges that have not ended: identity, samples and day by id."""
        self.requests: dict[str, OrderedDict[str, Request]] = {}
        """Requests by identity and place, oldest first."""
        self._kept: OrderedDict[tuple[str, str], int] = OrderedDict()
        self._bytes = 0

    async def charge(self, charge: Charge) -> Outcome:
        """See ``Ledger``."""
        return self.charge_now(charge)

    def charge_now(self, charge: Charge) -> Outcome:
        """``charge``, without waiting for anything."""
        now = self._clock()
        place = charge.place
        if charge.once is not None and place is not None:
            known = self._known(charge.identity, place, now)
            if known is not None:
                return self._replayed(known, charge, charge.once.print)
        account = self.accounts.setdefault(charge.identity, Account())
        account.roll(int(now // DAY_S))
        refusal = over_budget(
            charge,
            today=account.today,
            lifetime=account.lifetime,
            until_midnight_s=DAY_S - now % DAY_S,
        )
        if refusal is not None:
            raise refusal
        account.today += charge.samples
        account.lifetime += charge.samples
        self.open[charge.id] = (charge.identity, charge.samples, account.day)
        if charge.once is not None and place is not None:
            request = Request(charge.once.print, charge.id, charge.id, now)
            self.remember(charge.identity, place, request)
        return Charged(account.today, account.lifetime)

    def _replayed(self, known: Request, charge: Charge, print_: bytes) -> Outcome:
        if known.print != print_:
            raise Conflict
        if known.answer is not None:
            return Stored(known.answer)
        if known.working:
            return Pending(1.0)
        known.working, known.owner = True, charge.id
        return Again(known.charge, known.paid)

    async def settle(self, charge: Charge, paid_by: str, answer: bytes | None) -> None:
        """See ``Ledger``."""
        self.open.pop(paid_by, None)
        known = self._request(charge, paid_by)
        if known is None:
            return
        # Answered is answered, also by one that another attempt has taken over meanwhile.
        known.paid = True
        if known.owner == charge.id:
            known.working = False
        keep = answer is not None and len(answer) <= self._settings.max_answer_bytes
        if keep and known.answer is None:
            known.answer = answer
            assert answer is not None
            assert charge.place is not None
            self._keep(charge.identity, charge.place, len(answer))

    async def give_back(self, charge: Charge, paid_by: str) -> int:
        """See ``Ledger``."""
        return self.give_back_now(charge, paid_by)

    def give_back_now(self, charge: Charge, paid_by: str, *, told: bool = True) -> int:
        """``give_back``, without waiting for anything.

        Args:
            charge: of whoever gives up.
            paid_by: id of what paid.
            told: whether its caller was told that it is charged. Metrics count such charges only,
                so they count no refund of another.
        """
        known = self._request(charge, paid_by)
        if known is not None:
            if known.owner != charge.id:
                return 0
            known.working = False
        identity, samples, day = self.open.pop(paid_by, ("", 0, 0))
        if not samples:
            return 0
        self.accounts[identity].give_back(samples, day)
        if told:
            self._metrics.refunded(samples)
        if known is not None and charge.place is not None:
            # What is not paid for is not remembered: sent again, it is a new request.
            self._forget(identity, charge.place)
        return samples

    def leave(self, charge: Charge, paid_by: str) -> None:
        """See ``Ledger``."""
        known = self._request(charge, paid_by)
        if known is None:
            self.open.pop(paid_by, None)
        elif known.owner == charge.id:
            known.working = False

    async def used(self, identity: str) -> Used:
        """See ``Ledger``."""
        day = int(self._clock() // DAY_S)
        account = self.accounts.get(identity, Account())
        account.roll(day)
        return Used(account.today, account.lifetime, day)

    async def start(self) -> None:
        """Nothing has to be opened."""

    async def close(self) -> None:
        """Nothing has to be closed."""

    def remember(self, identity: str, place: str, request: Request) -> None:
        """Take a request in, in the place of the oldest one if there are too many."""
        requests = self.requests.setdefault(identity, OrderedDict())
        requests[place] = request
        # A journal may hold a place again, which does not leave its old position by itself.
        requests.move_to_end(place)
        while len(requests) > self._settings.max_requests:
            self._forget(identity, next(iter(requests)))

    def begin_anew(self) -> None:
        """Take everybody for gone who was at work: what was charged stays charged.

        Requests may have been answered, and are not given back if they fail when they come again.
        """
        self.open.clear()
        oldest = self._clock() - self._settings.window_s
        for identity, requests in self.requests.items():
            for place in [place for place, known in requests.items() if known.born <= oldest]:
                self._forget(identity, place)
            for known in requests.values():
                known.working, known.paid = False, True

    def remembered(self) -> Iterator[tuple[str, str, Request]]:
        """Every request that is still remembered, with its identity and place."""
        oldest = self._clock() - self._settings.window_s
        for identity, requests in self.requests.items():
            for place, request in requests.items():
                if request.born > oldest:
                    yield identity, place, request

    def _known(self, identity: str, place: str, now: float) -> Request | None:
        requests = self.requests.get(identity)
        if requests is None:
            return None
        oldest = now - self._settings.window_s
        while requests and next(iter(requests.values())).born <= oldest:
            self._forget(identity, next(iter(requests)))
        return requests.get(place)

    def _request(self, charge: Charge, paid_by: str) -> Request | None:
        if charge.place is None:
            return None
        known = self.requests.get(charge.identity, OrderedDict()).get(charge.place)
        return known if known is not None and known.charge == paid_by else None

    def _forget(self, identity: str, place: str) -> None:
        known = self.requests[identity].pop(place, None)
        if known is not None and not known.working:
            self.open.pop(known.charge, None)
        self._bytes -= self._kept.pop((identity, place), 0)

    def _keep(self, identity: str, place: str, size: int) -> None:
        self._bytes += size - self._kept.pop((identity, place), 0)
        self._kept[identity, place] = size
        while self._bytes > self._settings.max_memory_bytes:
            (whose, where), freed = self._kept.popitem(last=False)
            self._bytes -= freed
            self.requests[whose][where].answer = None
