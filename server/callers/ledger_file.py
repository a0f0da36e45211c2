"""The ledger of one process that outlives it: what is in memory, written down line by line.

What is written: every charge before it counts as one, with its idempotency key, and everything that
is given back. Not written are answers: after a restart, a request that was charged is computed
again, and not charged again. What was being answered when the process was killed stays charged.

Memory says what is left, and lines reach the disk in the order in which memory changed. So whoever
is charged for samples that were given back is let through after both lines are there, and a budget
is not overspent by whoever is let through, whenever the process ends. Of a refund itself nobody
waits to hear: if the process ends before its line is there, the samples stay charged.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from server.callers.journal import Journal, whole_lines
from server.callers.ledger import Charge, Charged, Outcome, Used
from server.callers.ledger_memory import Account, MemoryLedger, Request
from server.callers.metrics import CallerMetrics
from server.errors import ConfigurationError, StoreAway
from server.settings_callers import IdempotencySettings

__all__ = ["FileLedger"]

logger = logging.getLogger(__name__)

MOST_WAITING = 10_000
"""Lines that wait for a disk that hangs: beyond that nobody is charged, or let through. Refunds
come on top, of which there are no more than charges."""

HANGS_S = 1.0
"""How long the disk may leave all lines waiting: whoever gives up after that has met a failure."""

COMPACTED_AT = 50_000
"""Lines after which the file is replaced by what they came to; twice as many as that was last time
where that is more, so that the work stays a share of what is charged."""


class FileLedger:
    """A ``MemoryLedger`` with a journal.

    Args:
        path: of the journal.
        settings: what of requests is remembered.
        metrics: told of what could not be written.
        clock: seconds since the epoch.
        compacted_at: lines after which the file is compacted, at least.
    """

    def __init__(
        self,
        path: Path,
        settings: IdempotencySettings,
        metrics: CallerMetrics,
        *,
        clock: Callable[[], float] = time.time,
        compacted_at: int = COMPACTED_AT,
    ) -> None:
        self._path = path
        self._memory = MemoryLedger(settings, metrics, clock=clock)
        self._metrics = metrics
        self._clock = clock
        self._journal = Journal(path)
        self._compacted_at = compacted_at
        self._lines = 0
        self._kept = 0
        self._full = False
        self._since: float | None = None
        """Since when lines have waited without any being written, by the monotonic clock."""
        self._hangs = False

    async def start(self) -> None:
        """See ``Ledger``."""
        lines = await asyncio.to_thread(self._journal.open)
        try:
            self._read_all(lines)
        except ConfigurationError:
            self._journal.close()
            raise
        # Not before the last line: what is still at work when it is forgotten can be given back.
        self._memory.begin_anew()
        if not lines:
            return
        try:
            await self._compact()
        except OSError as error:
            self._journal.close()
            raise ConfigurationError(
                f"callers.ledger: {self._path} cannot be written: {error.strerror}"
            ) from error

    def look(self) -> None:
        """Instead of ``start``: know what is on the disk, which stays with the server that owns it.

        Nothing is charged and nothing is closed after that.

        Raises:
            ConfigurationError: it cannot be read.
        """
        try:
            lines = whole_lines(self._path.read_bytes())
        except FileNotFoundError:
            raise ConfigurationError(
                f"callers.ledger: there is no {self._path}: no server was started yet, or it "
                "counts elsewhere"
            ) from None
        except OSError as error:
            raise ConfigurationError(
                f"callers.ledger: {self._path} cannot be read: {error.strerror}"
            ) from error
        self._read_all(lines)

    async def charge(self, charge: Charge) -> Outcome:
        """See ``Ledger``."""
        outcome = self._memory.charge_now(charge)
        if not isinstance(outcome, Charged):
            return outcome
        if self._journal.waiting >= MOST_WAITING:
            # Nothing of it is written, so that nothing has to be struck out.
            self._memory.give_back_now(charge, charge.id, told=False)
            self._metrics.failed("budgets")
            if not self._full:
                logger.error("callers.ledger: too many lines wait for %s", self._path)
            self._full = True
            raise StoreAway(retry_after=1.0)
        self._full = False
        line: dict[str, Any] = {"charge": charge.id, "of": charge.identity, "n": charge.samples}
        line["day"] = self._memory.open[charge.id][2]
        if charge.once is not None:
            line |= {"once": charge.place, "print": charge.once.print.hex(), "at": self._clock()}
        try:
            await self._append(line)
        except OSError as error:
            # Written down as well: the file may be replaced, and then hold the charge after all.
            self._given_back(charge, charge.id, told=False)
            self._metrics.failed("budgets")
            self._complain(error)
            raise StoreAway(retry_after=1.0) from error
        except asyncio.CancelledError:
            # The caller hung up, or has waited for long enough, before anything was computed, and
            # the line may be there by now.
            self._look_whether_it_hangs()
            self._given_back(charge, charge.id, told=False)
            raise
        return outcome

    async def settle(self, charge: Charge, paid_by: str, answer: bytes | None) -> None:
        """See ``Ledger``; nothing is written, since a charge counts unless it is given back."""
        await self._memory.settle(charge, paid_by, answer)

    async def give_back(self, charge: Charge, paid_by: str) -> int:
        """See ``Ledger``; waits for nothing, so that its caller hears at once of what failed."""
        return self._given_back(charge, paid_by)

    def _given_back(self, charge: Charge, paid_by: str, *, told: bool = True) -> int:
        samples = self._memory.give_back_now(charge, paid_by, told=told)
        if samples:
            self._append({"back": paid_by}).add_done_callback(self._told)
        return samples

    def _told(self, written: asyncio.Future[None]) -> None:
        error = None if written.cancelled() else written.exception()
        if isinstance(error, OSError):
            # It counts here; only a restart before the next compaction would have it otherwise.
            self._metrics.failed("settling")
            self._complain(error)

    def _complain(self, error: OSError) -> None:
        logger.error("callers.ledger: %s cannot be written: %s", self._path, error.strerror)

    def _look_whether_it_hangs(self) -> None:
        """Count an admission that the disk has kept waiting, if that is why it was given up."""
        if self._since is None or time.monotonic() - self._since < HANGS_S:
            return
        self._metrics.failed("budgets")
        if not self._hangs:
            logger.error("callers.ledger: %s hangs", self._path)
        self._hangs = True

    def leave(self, charge: Charge, paid_by: str) -> None:
        """See ``Ledger``."""
        self._memory.leave(charge, paid_by)

    async def used(self, identity: str) -> Used:
        """See ``Ledger``."""
        return await self._memory.used(identity)

    async def close(self) -> None:
        """See ``Ledger``."""
        await asyncio.to_thread(self._journal.close)

    def _append(self, line: dict[str, Any]) -> asyncio.Future[None]:
        if self._since is None:
            self._since = time.monotonic()
        written = self._journal.append(_line(**line))
        written.add_done_callback(self._came_round)
        self._lines += 1
        if self._lines >= max(self._compacted_at, 2 * self._kept):
            self._compact()
        return written

    def _came_round(self, written: asyncio.Future[None]) -> None:
        # Whoever waits no longer cancels its own, which says nothing about the disk.
        if not written.cancelled():
            self._since, self._hangs = None, False

    def _compact(self) -> asyncio.Future[None]:
        """Replace all lines by what they came to."""
        # Taken now, when memory is what all lines up to here come to; written out by the journal's
        # thread, which may take its time.
        taken = _Snapshot.of(self._memory)
        self._lines, self._kept = 0, len(taken)
        return self._journal.replace(taken.lines())

    # -- lines ---------------------------------------------------------------------------------

    def _read_all(self, lines: Sequence[bytes]) -> None:
        for number, line in enumerate(lines, 1):
            try:
                self._read(json.loads(line))
            except (ValueError, KeyError, TypeError, AttributeError):
                raise ConfigurationError(
                    f"callers.ledger: line {number} of {self._path} cannot be read: repair it, or "
                    "move the file away, which forgets what every caller has used"
                ) from None

    def _read(self, line: dict[str, Any]) -> None:
        """Do to memory what was done when ``line`` was written."""
        memory = self._memory
        if "charge" in line:
            account = memory.accounts.setdefault(line["of"], Account())
            account.roll(line["day"])
            account.lifetime += line["n"]
            # A clock that was set back may have put an earlier day behind a later one.
            account.today += line["n"] if line["day"] == account.day else 0
            memory.open[line["charge"]] = (line["of"], line["n"], line["day"])
            if "once" in line:
                self._remember(line["once"], line["charge"], line)
        elif "back" in line:
            identity, samples, day = memory.open.pop(line["back"], ("", 0, 0))
            if samples:  # none: the charge itself was never written
                memory.accounts[identity].give_back(samples, day)
            self._forget(identity, line["back"])
        elif "account" in line:
            of = Account(line["lifetime"], line["day"], line["today"])
            memory.accounts[line["account"]] = of
        elif "open" in line:
            memory.open[line["open"]] = (line["of"], line["n"], line["day"])
        else:
            self._remember(line["request"], line["by"], line)

    def _forget(self, identity: str, charge: str) -> None:
        requests = self._memory.requests.get(identity)
        if requests is not None:
            for place in [place for place, known in requests.items() if known.charge == charge]:
                del requests[place]

    def _remember(self, place: str, charge: str, line: dict[str, Any]) -> None:
        request = Request(bytes.fromhex(line["print"]), charge, charge, line["at"])
        self._memory.remember(line["of"], place, request)


@dataclass(frozen=True, slots=True)
class _Snapshot:
    """What memory held at one moment, in rows that nobody changes any more."""

    accounts: list[tuple[str, int, int, int]]
    open: list[tuple[str, tuple[str, int, int]]]
    requests: list[tuple[str, str, bytes, str, float]]

    @classmethod
    def of(cls, memory: MemoryLedger) -> _Snapshot:
        return cls(
            [(name, of.lifetime, of.day, of.today) for name, of in memory.accounts.items()],
            list(memory.open.items()),
            [
                (place, identity, known.print, known.charge, known.born)
                for identity, place, known in memory.remembered()
            ],
        )

    def __len__(self) -> int:
        return len(self.accounts) + len(self.open) + len(self.requests)

    def lines(self) -> Iterator[bytes]:
        """Lines that come to what memory held."""
        for identity, lifetime, day, today in self.accounts:
            yield _line(account=identity, lifetime=lifetime, day=day, today=today)
        for charge, (identity, samples, day) in self.open:
            yield _line(open=charge, of=identity, n=samples, day=day)
        for place, identity, print_, charge, born in self.requests:
            yield _line(request=place, of=identity, print=print_.hex(), by=charge, at=born)


def _line(**fields: Any) -> bytes:
    return json.dumps(fields, separators=(",", ":")).encode()
