"""What a key is, and what is kept of it."""

from __future__ import annotations

import hmac
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from server.callers.keys import StillInGrace, new_key, presented_id, rotated

NOW = datetime.now(UTC)


def test_a_key_names_its_record_and_nothing_of_it_is_kept() -> None:
    made = new_key(name="alice")
    assert presented_id(made.secret) == made.record.id
    assert made.record.matches(made.secret, NOW)
    secret = made.secret.rpartition(f"{made.record.id}_")[2]
    assert len(secret) == 43
    assert secret not in made.record.model_dump_json()
    assert made.record.caller().identity == f"key-{made.record.id}"


def test_no_two_keys_are_alike() -> None:
    assert len({new_key().secret for _ in range(100)}) == 100


@pytest.mark.parametrize(
    "presented",
    ["", "intaglio", "intaglio_", "intaglio_0123456789ab_short", "alpha", "intaglio_é", "\udcff"],
)
def test_what_is_no_key_of_ours_names_no_record(presented: str) -> None:
    assert presented_id(presented) is None


def test_another_secret_does_not_match() -> None:
    made, other = new_key(), new_key()
    forged = other.secret.replace(other.record.id, made.record.id)
    assert presented_id(forged) == made.record.id
    assert not made.record.matches(forged, NOW)


def test_a_rotated_key_keeps_its_name_and_the_old_secret_lasts_as_long_as_said() -> None:
    made = new_key(per_day=10)
    again = rotated(made.record, grace_s=60)
    assert again.record.id == made.record.id
    assert again.record.per_day == 10
    now = datetime.now(UTC)
    assert again.record.matches(again.secret, now)
    assert again.record.matches(made.secret, now)
    assert not again.record.matches(made.secret, now + timedelta(minutes=2))
    at_once = rotated(made.record, grace_s=0)
    assert not at_once.record.matches(made.secret, now)


def test_a_second_rotation_in_the_grace_of_the_first_guesses_nothing() -> None:
    first = rotated(new_key().record, grace_s=60)
    with pytest.raises(StillInGrace) as refused:
        rotated(first.record, grace_s=3600)
    assert refused.value.until == first.record.replaced_until


def test_a_secret_that_was_lost_ends_and_the_one_from_before_it_lasts() -> None:
    made = new_key()
    lost = rotated(made.record, grace_s=60)
    again = rotated(lost.record, grace_s=3600, latest="lost")
    now = datetime.now(UTC)
    assert again.record.matches(made.secret, now + timedelta(minutes=2))
    assert not again.record.matches(made.secret, now + timedelta(minutes=62))
    assert again.record.matches(again.secret, now)
    assert not again.record.matches(lost.secret, now)


def test_a_secret_that_was_deployed_lasts_and_the_one_from_before_it_ends() -> None:
    made = new_key()
    used = rotated(made.record, grace_s=60)
    again = rotated(used.record, grace_s=3600, latest="deployed")
    now = datetime.now(UTC)
    assert again.record.matches(used.secret, now + timedelta(minutes=2))
    assert not again.record.matches(used.secret, now + timedelta(minutes=62))
    assert again.record.matches(again.secret, now)
    assert not again.record.matches(made.secret, now)


def test_what_became_of_the_latest_secret_is_said_of_what_can_last() -> None:
    made = new_key()
    first = rotated(made.record, grace_s=60, latest="deployed")
    assert first.record.matches(made.secret, datetime.now(UTC)), "no grace ran"
    with pytest.raises(ValueError, match="lost: no earlier secret works"):
        rotated(made.record, grace_s=60, latest="lost")
    for record in (made.record, first.record):
        with pytest.raises(ValueError, match=r"lost: needs a grace"):
            rotated(record, grace_s=0, latest="lost")
        with pytest.raises(ValueError, match=r"deployed: needs a grace"):
            rotated(record, grace_s=0, latest="deployed")


def test_a_second_rotation_after_the_grace_of_the_first_is_like_the_first() -> None:
    made = new_key()
    first = rotated(made.record, grace_s=60)
    over = first.record.model_copy(update={"replaced_until": NOW - timedelta(minutes=1)})
    again = rotated(over, grace_s=60)
    now = datetime.now(UTC)
    assert again.record.matches(first.secret, now)
    assert not again.record.matches(made.secret, now)


def test_a_rotation_without_a_grace_ends_every_earlier_secret() -> None:
    made = new_key()
    first = rotated(made.record, grace_s=60)
    at_once = rotated(first.record, grace_s=0)
    now = datetime.now(UTC)
    assert at_once.record.matches(at_once.secret, now)
    assert not at_once.record.matches(first.secret, now)
    assert not at_once.record.matches(made.secret, now)


def test_both_digests_are_compared_in_constant_time_whatever_matches(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compared: list[bool] = []
    compare = hmac.compare_digest

    def watched(left: bytes, right: bytes) -> bool:
        compared.append(compare(left, right))
        return compared[-1]

    monkeypatch.setattr(hmac, "compare_digest", watched)
    made = new_key()
    made.record.matches(made.secret, NOW)
    made.record.matches("other", NOW)
    assert compared == [True, False, False, False]


def test_a_key_ends_when_it_was_to_end() -> None:
    record = new_key(expires=NOW + timedelta(hours=1)).record
    assert record.usable(NOW)
    assert not record.usable(NOW + timedelta(hours=1))
    assert not record.model_copy(update={"revoked": NOW}).usable(NOW)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"scopes": ()}, "scopes: a key must be good for something"),
        ({"scopes": ("root",)}, "scopes"),
        ({"expires": NOW.replace(tzinfo=None)}, r"expires\n.*timezone"),
        ({"rate": 5.0}, "burst: a rate needs a burst"),
        ({"burst": 5}, "burst: a rate needs a burst"),
        ({"rate": 3.0, "burst": 10}, "whole number of seconds"),
        ({"rate": 10.0, "burst": 5}, "whole number of seconds, from 1"),
        ({"rate": -1.0, "burst": 5}, "rate"),
        ({"rate": float("nan"), "burst": 5}, "rate"),
        ({"per_day": 0}, "per_day"),
        ({"lifetime": -1}, "lifetime"),
        ({"tier": "a/b"}, "tier"),
    ],
)
def test_limits_that_cannot_be_kept_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        new_key(**fields)
