"""What can go wrong with a theft.

    AttackError
    ├── AdaptationError        an add-on is unknown, misused, or lacks what it needs
    ├── BudgetExhausted        the attack asked for more than its query budget
    ├── TransferSetError       a transfer set cannot be used, or does not belong to this attack
    │   ├── TransferSetExists  there is one already, and resuming was not asked for
    │   ├── TransferSetLocked  another process is writing it
    │   └── CorruptRecord      damage before the last record; names the offset
    ├── PoolError              the surrogate pool or the test set does not suit the victim
    ├── ReportError            a report cannot be read or has nothing to show
    ├── HonestUnmeasured       the report is written, without what honest callers are served
    └── VictimError            the victim gave no answer
        ├── Unreachable        no connection, or none that lasted
        ├── Refused            an HTTP status that asking again does not change
        │   └── OverBudget     429: this key may ask no more for now
        └── ProtocolError      what came back is not the Open Inference Protocol V2

Every message is one sentence that a person can act on. No message holds an API key.
"""

from __future__ import annotations

__all__ = [
    "AdaptationError",
    "AttackError",
    "BudgetExhausted",
    "CorruptRecord",
    "HonestUnmeasured",
    "OverBudget",
    "PoolError",
    "ProtocolError",
    "Refused",
    "ReportError",
    "TransferSetError",
    "TransferSetExists",
    "TransferSetLocked",
    "Unreachable",
    "VictimError",
]


class AttackError(Exception):
    """Base of every error raised by this package."""


class AdaptationError(AttackError):
    """An add-on is unknown, misused, or lacks what it needs."""


class BudgetExhausted(AttackError):
    """The attack asked for more than its query budget; nothing was sent."""


class TransferSetError(AttackError):
    """A transfer set cannot be used, or does not belong to this attack."""


class TransferSetExists(TransferSetError):
    """There is a transfer set already, and resuming was not asked for."""


class TransferSetLocked(TransferSetError):
    """Another process is writing this transfer set."""


class CorruptRecord(TransferSetError):
    """A record before the last one is damaged.

    Attributes:
        offset: where it begins in ``records.bin``, in bytes.
    """

    def __init__(self, message: str, *, offset: int) -> None:
        super().__init__(message)
        self.offset = offset


class PoolError(AttackError):
    """The surrogate pool or the test set does not suit the victim or the budget."""


class ReportError(AttackError):
    """A report cannot be read, or has nothing to show."""


class HonestUnmeasured(AttackError):
    """The theft is done and its report written, but honest callers were not answered."""


class VictimError(AttackError):
    """The victim gave no answer."""


class Unreachable(VictimError):
    """There is no connection to the victim, or none that lasted."""


class Refused(VictimError):
    """The victim answered with a status that asking again does not change.

    Attributes:
        status: HTTP status code.
    """

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message)
        self.status = status


class OverBudget(Refused):
    """The victim says that this key may ask no more for now.

    Attributes:
        after_s: when it may, in seconds, where the victim says so.
    """

    def __init__(self, message: str, *, status: int, after_s: float | None = None) -> None:
        super().__init__(message, status=status)
        self.after_s = after_s


class ProtocolError(VictimError):
    """What came back is not the Open Inference Protocol V2, or not of the announced shape."""
