"""Whether a key may ask the honest queries of a campaign: known before the first query.

Queries are not given back, so a theft is not begun whose report could never be whole.
"""

from __future__ import annotations

from pathlib import Path

from attack_client.errors import AttackError, OverBudget
from attack_client.honest import queries_of
from attack_client.query_allowance import Allowance
from attack_client.transfer_set import TransferSet

__all__ = ["check_bearable", "check_bearable_now", "still_to_ask"]


def still_to_ask(transfer: Path, budget: int, *, resume: bool) -> int:
    """Answers of ``budget`` that are not on disk in ``transfer``; equal images counted each.

    Raises:
        TransferSetError: what is there cannot be read.
    """
    if not resume or not TransferSet.begun(transfer):
        return budget
    with TransferSet.read(transfer) as begun:
        return sum(count for _, count in begun.missing(0, budget))


def check_bearable(
    allowance: Allowance | None, *, images: int, latency_requests: int, theft: int | None
) -> str | None:
    """Refuse honest queries that the key may never ask.

    Args:
        allowance: of the key that asks them; None bears everything.
        images: in the test set.
        latency_requests: that are timed.
        theft: samples that the theft takes of the same key; None where it has another.

    Returns:
        A sentence where they may be asked, but not all of it today; None where they may.

    Raises:
        AttackError: says what the key may ask, what is needed, and what to do.
    """
    if allowance is None:
        return None
    honest = queries_of(images, latency_requests=latency_requests)
    singles = honest - images
    needs = f"honest queries take {honest:,} ({images:,} test images"
    needs += f", {singles:,} single ones for the latency)" if singles else ")"
    whose = "the operator's key"
    if theft is not None:
        whose = "the key"
    if theft:
        needs = f"the theft takes {theft:,} and {needs}"
    total = honest + (theft or 0)
    instead = "give these a key of their own with --operator-key, or leave them out by --no-honest"
    if allowance.ever is not None and total > allowance.ever:
        raise AttackError(
            f"{whose} has {allowance.ever:,} samples left and will have no more, but {needs}: "
            f"{instead}"
        )
    if allowance.a_day is not None and honest > allowance.a_day:
        raise AttackError(
            f"{whose} may ask {allowance.a_day:,} samples a day, but {needs}, and honest queries "
            f"are asked on one day: {instead}"
        )
    if total > allowance.left:
        more = "" if allowance.until is None else f" from {allowance.until}"
        return (
            f"{whose} may ask {allowance.left:,} samples more today, and {needs}: what is left "
            f"over can be had{more} with --resume"
        )
    return None


def check_bearable_now(
    allowance: Allowance | None, *, images: int, latency_requests: int, harmless: bool = False
) -> str | None:
    """Refuse honest queries that would be cut short; nothing is kept of half of them.

    Args:
        allowance: of the key that asks them; None bears everything.
        images: in the test set.
        latency_requests: that are timed.
        harmless: the theft was done before, and an earlier command may have paid for some of them:
            a server that knows idempotency keys does not charge for a batch again while it
            remembers it, which ``allowance`` does not tell. They are not refused.

    Returns:
        A sentence where they may be too many and are tried all the same; None where they are not.

    Raises:
        OverBudget: fewer samples are left than they take.
    """
    honest = queries_of(images, latency_requests=latency_requests)
    if allowance is None or honest <= allowance.left:
        return None
    more = "no more will come" if allowance.until is None else f"more from {allowance.until}"
    lacking = (
        f"the key may ask {allowance.left:,} samples more ({more}), and honest queries take "
        f"{honest:,}"
    )
    if harmless:
        return f"{lacking}: they are tried, for what an earlier command paid for may cost nothing"
    raise OverBudget(lacking, status=429)
