"""The options of ``intaglio keys`` that say what a key is good for, and a secret for how long."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import click

__all__ = ["burst_at", "fields_of", "grace", "latest_of", "limits", "span"]

SPAN = re.compile(r"(\d+)([smhdw])")
MOST_RATE = 1e9
"""What a record takes."""

UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def span(context: click.Context, parameter: click.Parameter, value: str | None) -> float | None:
    """``90d`` as seconds: the callback of options that take a span of time.

    Raises:
        BadParameter: it is none.
    """
    del context, parameter
    if value is None:
        return None
    found = SPAN.fullmatch(value)
    if found is None:
        raise click.BadParameter(f"{value!r} is not a span of time: write 30m, 12h, 90d or 52w")
    try:
        return timedelta(**{UNITS[found[2]]: int(found[1])}).total_seconds()
    except OverflowError:
        raise click.BadParameter(f"{value!r} is too long") from None


def limits(*, new: bool) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """The options that a key is created with, or changed with.

    Args:
        new: whether an option that is left out means a default; otherwise nothing is changed.
    """

    def default(of_a_new_key: str) -> str:
        return f"  [default: {of_a_new_key if new else 'unchanged'}]"

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        for option in reversed(
            (
                click.option(
                    "--name", help=f"Name of its owner, for people only.{default('none')}"
                ),
                click.option(
                    "--scope",
                    "scopes",
                    multiple=True,
                    type=click.Choice(("infer", "explain", "admin")),
                    help=f"What it may be used for. Repeatable.{default('infer')}",
                ),
                click.option(
                    "--tier", help=f"Tier that answers it.{default('the one for everybody')}"
                ),
                click.option(
                    "--rate", type=float, help=f"Samples per second.{default('no limit')}"
                ),
                click.option(
                    "--burst",
                    type=int,
                    help="Samples at once, a whole number of seconds at --rate."
                    + default("ten seconds' worth"),
                ),
                click.option(
                    "--per-day", type=int, help=f"Samples per day (UTC).{default('no limit')}"
                ),
                click.option("--lifetime", type=int, help=f"Samples in all.{default('no limit')}"),
                click.option(
                    "--expires",
                    "expires_s",
                    metavar="SPAN",
                    callback=span,
                    help=f"Ends after this long: 30m, 12h, 90d or 52w.{default('never')}",
                ),
            )
        ):
            command = option(command)
        return command

    return decorate


def fields_of(given: dict[str, Any]) -> dict[str, Any]:
    """What was given to ``limits``, as fields of a record.

    Raises:
        UsageError: it ends later than there are dates.
    """
    expires_s = given.pop("expires_s")
    fields = {key: value for key, value in given.items() if value is not None and value != ()}
    if expires_s is not None:
        try:
            fields["expires"] = datetime.now(UTC) + timedelta(seconds=expires_s)
        except OverflowError:
            raise click.UsageError("--expires: that is too long") from None
    return fields


def burst_at(rate: float, kept: int | None) -> int:
    """The burst of a key whose ``rate`` was given without one.

    Args:
        rate: samples a second, not checked yet.
        kept: what the key has had; None: nothing, and it gets ten seconds of the rate.

    Raises:
        UsageError: what it has had is no whole number of seconds at that rate.
    """
    from server.callers.keys import burst_fits

    if not 0 < rate <= MOST_RATE:
        return 1  # the record will refuse the rate, by its name
    if kept is None:
        return max(1, round(10 * rate))
    if not burst_fits(rate, kept):
        raise click.UsageError(
            f"--rate: the key keeps its burst of {kept} samples, which at {rate:g} a second are "
            f"{kept / rate:g} s: it must be whole seconds, from 1 to 86400, so give --burst too"
        )
    return kept


def grace(command: Callable[..., None]) -> Callable[..., None]:
    """The options that say which secret keeps working when a key gets a new one."""
    for option in reversed(
        (
            click.option(
                "--grace",
                "grace_s",
                metavar="SPAN",
                default="0s",
                show_default=True,
                callback=span,
                help="How long the old secret keeps working. In the grace of an earlier rotation, "
                "say which of two that is: --lost or --deployed.",
            ),
            click.option(
                "--lost",
                is_flag=True,
                help="Nobody has the secret that the earlier rotation gave: it is dropped, and the "
                "one from before it keeps working.",
            ),
            click.option(
                "--deployed",
                is_flag=True,
                help="The secret that the earlier rotation gave is in use: it keeps working, and "
                "the one from before it ends.",
            ),
        )
    ):
        command = option(command)
    return command


def latest_of(*, lost: bool, deployed: bool) -> Literal["lost", "deployed"] | None:
    """What was said of the latest secret, as ``server.callers.keys.rotated`` takes it.

    Raises:
        UsageError: both.
    """
    if lost and deployed:
        raise click.UsageError("--lost and --deployed: give one of them")
    if lost:
        return "lost"
    return "deployed" if deployed else None
