"""The retry policy: a pure function of what happened."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attack_client.retry import Failure, Outcome, RetryPolicy, retry_after_s

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 413, 415, 422, 500, 501])
def test_what_asking_again_does_not_change_is_not_asked_again(status: int) -> None:
    failure = Failure(Outcome.STATUS, status, retry_after_s=1.0)
    assert RetryPolicy().delay_s(failure, attempt=1, waited_s=0, draw=0.5) is None


@pytest.mark.parametrize("status", [502, 503, 504])
def test_what_may_pass_is_asked_again_until_the_attempts_are_spent(status: int) -> None:
    policy = RetryPolicy(attempts=4)
    failure = Failure(Outcome.STATUS, status)
    delays = [policy.delay_s(failure, attempt=n, waited_s=0, draw=0.5) for n in range(1, 5)]
    assert delays == [0.1, 0.2, 0.4, None]


def test_a_limit_that_names_no_time_is_asked_again_less_often_and_as_long() -> None:
    policy = RetryPolicy()

    def delays(failure: Failure) -> list[float]:
        found = (policy.delay_s(failure, attempt=n, waited_s=0, draw=0.5) for n in range(1, 99))
        return [delay for delay in found if delay is not None]

    bare, full = (delays(Failure(Outcome.STATUS, status)) for status in (429, 503))
    assert bare == [1.6, 3.2, 6.4]
    assert len(full) == 7
    assert sum(bare) == pytest.approx(sum(full), rel=0.2)
    assert delays(Failure(Outcome.STATUS, 429, retry_after_s=2.0)) == [2.1] * 7
    patient = policy.for_as_long_as(3600)
    assert patient.delay_s(Failure(Outcome.STATUS, 429), attempt=50, waited_s=0, draw=0.5) == 10.0


def test_unreadable_answers_are_probably_charged_and_asked_for_once_more_only() -> None:
    policy = RetryPolicy(attempts=8, garbled_attempts=2)
    failure = Failure(Outcome.GARBLED)
    assert policy.delay_s(failure, attempt=1, waited_s=0, draw=0.5) is not None
    assert policy.delay_s(failure, attempt=2, waited_s=0, draw=0.5) is None


@given(
    attempt=st.integers(1, 10_000),
    draw=st.floats(0, 1, exclude_max=True),
    waited=st.floats(0, 400),
    after=st.none() | st.floats(0, 400),
)
def test_never_early_never_past_patience(
    attempt: int, draw: float, waited: float, after: float | None
) -> None:
    policy = RetryPolicy(attempts=10_001)
    failure = Failure(Outcome.STATUS, 503, after)
    delay = policy.delay_s(failure, attempt=attempt, waited_s=waited, draw=draw)
    if delay is None:
        assert waited + (after or policy.cap_s) + policy.base_s > policy.patience_s
        return
    assert waited + delay <= policy.patience_s
    assert delay >= (after or 0)
    assert delay <= (policy.cap_s if after is None else after + policy.base_s)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("7", 7.0),
        (" 0.25 ", 0.25),
        ("Sun, 01 Mar 2026 12:01:30 GMT", 90.0),
        ("Sun, 01 Mar 2026 11:00:00 GMT", 0.0),
        ("soon", None),
        ("Mon, 01 Jan 99999999999999999999 00:00:00 GMT", None),
        ("Sun, 01 Mar 2026 12:01:30 +99999999999999999999", None),
        ("-3", None),
        ("", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: str | None, seconds: float | None) -> None:
    assert retry_after_s(value, now=NOW) == seconds


@given(
    st.text(max_size=60)
    | st.from_regex(r"\A(Mon, )?[0-9]{1,30} Jan [0-9]{1,30} [0-9]{1,9}:[0-9]{2}:[0-9]{2} \S{0,9}\Z")
)
def test_no_retry_after_crashes_the_client(value: str) -> None:
    seconds = retry_after_s(value, now=NOW)
    assert seconds is None or seconds >= 0


def test_a_policy_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        RetryPolicy(attempts=0)
    with pytest.raises(ValueError, match="base_s"):
        RetryPolicy(base_s=2, cap_s=1)


def test_patience_is_what_counts_where_it_is_given() -> None:
    lost, garbled = Failure(Outcome.LOST), Failure(Outcome.GARBLED)
    policy = RetryPolicy().for_as_long_as(3600.0)
    assert policy.delay_s(lost, attempt=1000, waited_s=3500.0, draw=0.5) == 10.0
    assert policy.delay_s(lost, attempt=1000, waited_s=3595.0, draw=0.5) is None
    assert policy.delay_s(garbled, attempt=2, waited_s=0.0, draw=0.5) is None
    assert RetryPolicy().for_as_long_as(0.0).delay_s(lost, attempt=1, waited_s=0, draw=0.5) is None
    assert RetryPolicy().for_as_long_as(None) == RetryPolicy()
