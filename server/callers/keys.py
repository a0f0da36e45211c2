"""A caller's key: how it is made, what is kept of it, and whether a presented one is it.

A key is ``intaglio_ID_SECRET``: the id finds the record, the secret is 256 random bits. What is
kept is the SHA-256 of the whole. A slow hash would add nothing: it protects passwords because
people choose them from few, and nobody can try 2**256; it would only let a stranger make the
server work.
"""

from __future__ import annotations

import hmac
import re
import secrets
from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from models.card import Name
from server.admission import Allowance, Caller, key_digest

__all__ = [
    "KeyRecord",
    "NewKey",
    "StillInGrace",
    "burst_fits",
    "new_key",
    "presented_id",
    "rotated",
]

FORM = re.compile(r"intaglio_([0-9a-f]{12})_[A-Za-z0-9_-]{43}")
NOBODY = bytes(32)

Samples = Annotated[int, Field(ge=1, le=2**53)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Moment = Annotated[AwareDatetime, Field(strict=False)]


class KeyRecord(BaseModel):
    """What is kept of a key; no secret among it.

    Attributes:
        id: names the key, in the audit and in every command.
        name: what its owner calls it.
        digest: SHA-256 of the key, in hexadecimal.
        replaced: digest of the secret that was in use before the last rotation.
        replaced_until: when that one ends.
        scopes: what it is good for.
        tier: which of a model's victims and chains answers; None: the one for everybody.
        rate: samples a second, in the long run.
        burst: samples at once; a whole number of seconds at ``rate``.
        per_day: budget between one midnight UTC and the next.
        lifetime: budget for good.
        created: when it was made.
        expires: when it ends; None: never.
        revoked: when it was ended; None: it was not.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: Annotated[str, Field(pattern=r"^[0-9a-f]{12}$")]
    name: Annotated[str, Field(max_length=100)] = ""
    digest: Digest
    replaced: Digest | None = None
    replaced_until: Moment | None = None
    scopes: tuple[Literal["infer", "explain", "admin"], ...] = ("infer",)
    tier: Name | None = None
    rate: Annotated[float, Field(gt=0.0, le=1e9)] | None = None
    burst: Samples | None = None
    per_day: Samples | None = None
    lifetime: Samples | None = None
    created: Moment
    expires: Moment | None = None
    revoked: Moment | None = None

    @model_validator(mode="after")
    def _limits_that_can_be_kept(self) -> KeyRecord:
        if not self.scopes:
            raise ValueError("scopes: a key must be good for something")
        if (self.rate is None) != (self.burst is None):
            raise ValueError("burst: a rate needs a burst, and a burst a rate")
        if self.rate is not None and self.burst is not None:
            seconds = self.burst / self.rate
            if not burst_fits(self.rate, self.burst):
                raise ValueError(
                    f"burst: must be what the rate allows in a whole number of seconds, from 1 to "
                    f"86400: {self.burst} samples at {self.rate:g} a second are {seconds:g} s"
                )
        return self

    @property
    def identity(self) -> str:
        """What limits and budgets are counted against: it outlives a rotation."""
        return f"key-{self.id}"

    def in_grace(self, now: datetime) -> bool:
        """Whether a secret from before the last rotation still works."""
        return (
            self.replaced is not None
            and self.replaced_until is not None
            and now < self.replaced_until
        )

    def usable(self, now: datetime) -> bool:
        """Whether it has neither ended nor been ended."""
        return self.revoked is None and (self.expires is None or now < self.expires)

    def matches(self, presented: str, now: datetime) -> bool:
        """Whether ``presented`` is this key, or the one before it in its last days.

        Both comparisons are always made, each in constant time.
        """
        digest = key_digest(presented)
        current = hmac.compare_digest(digest, bytes.fromhex(self.digest))
        replaced = bytes.fromhex(self.replaced) if self.replaced is not None else NOBODY
        earlier = hmac.compare_digest(digest, replaced)
        return current or (earlier and self.in_grace(now))

    def caller(self) -> Caller:
        """Whoever presents it."""
        return Caller(
            self.identity,
            tier=self.tier,
            scopes=frozenset(self.scopes),
            allowance=Allowance(self.rate, self.burst, self.per_day, self.lifetime),
            expires=self.expires,
        )


class NewKey(BaseModel):
    """A key that was just made: the only time that ``secret`` is seen.

    Attributes:
        secret: what its owner presents.
        record: what is kept.
    """

    model_config = ConfigDict(frozen=True)

    secret: str
    record: KeyRecord


class StillInGrace(Exception):
    """Two secrets of a key work, one of them may go on beside a new one, and nobody said which.

    Attributes:
        until: when the earlier of the two ends.
    """

    def __init__(self, until: datetime) -> None:
        super().__init__(f"the grace of an earlier rotation runs until {until}")
        self.until = until


def new_key(**fields: object) -> NewKey:
    """Make a key with these fields of ``KeyRecord``.

    Raises:
        ValueError: a field cannot be used; names it.
    """
    name = secrets.token_hex(6)
    secret = _secret(name)
    record = {"id": name, "digest": key_digest(secret).hex(), "created": datetime.now(UTC)}
    return NewKey(secret=secret, record=KeyRecord.model_validate({**fields, **record}))


def rotated(
    record: KeyRecord, *, grace_s: float, latest: Literal["lost", "deployed"] | None = None
) -> NewKey:
    """A new secret for the same key; one old one lasts ``grace_s`` seconds more.

    That is the only one that works or, while the grace of a rotation runs, one of two.

    Args:
        record: what is kept of the key.
        grace_s: 0 ends every earlier secret.
        latest: what became of the secret that works now. ``deployed``: it is in use, and lasts.
            ``lost``: nobody has it; it ends, and the one from before it lasts.

    Raises:
        StillInGrace: two secrets work, and ``latest`` was not said.
        ValueError: it would last longer than there are dates; or there is no grace for what was
            said of ``latest``; or it was lost, and the one from before it has ended as well.
    """
    secret = _secret(record.id)
    now = datetime.now(UTC)
    try:
        until = now + timedelta(seconds=grace_s)
    except OverflowError:
        raise ValueError("grace: that is too long") from None
    kept: str | None = record.digest
    if grace_s <= 0:
        if latest is not None:
            raise ValueError(f"{latest}: needs a grace, for it says which secret keeps working")
        kept = None
    elif record.in_grace(now):
        if latest is None:
            assert record.replaced_until is not None
            raise StillInGrace(record.replaced_until)
        if latest == "lost":
            kept = record.replaced
    elif latest == "lost":
        raise ValueError(
            "lost: no earlier secret works that could keep working: rotate without a grace"
        )
    changed = {
        "digest": key_digest(secret).hex(),
        "replaced": kept,
        "replaced_until": until if kept is not None else None,
    }
    return NewKey(secret=secret, record=record.model_copy(update=changed))


def burst_fits(rate: float, burst: int) -> bool:
    """Whether ``burst`` is what ``rate`` allows in a whole number of seconds, from 1 to 86400."""
    seconds = burst / rate
    return 1 <= seconds <= 86_400 and abs(seconds - round(seconds)) <= 1e-6 * seconds


def presented_id(presented: str) -> str | None:
    """Which key ``presented`` claims to be; None if it is none of ours."""
    found = FORM.fullmatch(presented)
    return found[1] if found else None


def _secret(name: str) -> str:
    return f"intaglio_{name}_{secrets.token_urlsafe(32)}"
