"""The victim of a campaign as its callers see it: a thief, who may have many keys, and others."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from attack_client.adaptive.accounts import PASSING_ON
from attack_client.contract import BlackBox
from attack_client.http_victim import HttpVictim
from attack_client.retry import RetryPolicy

if TYPE_CHECKING:
    from attack_client.campaign import Campaign

__all__ = ["as_caller", "as_thief"]

RETRY = RetryPolicy()


@asynccontextmanager
async def as_thief(campaign: Campaign) -> AsyncIterator[BlackBox]:
    """The victim as the thief sees it: under one key, or under several."""
    accounts = campaign.adaptations.accounts
    if accounts is None:
        async with as_caller(campaign, campaign.api_key) as victim:
            yield victim
        return

    def caller(key: str) -> HttpVictim:
        return as_caller(campaign, key, retry=PASSING_ON)

    async with accounts.open(caller, patience_s=campaign.patience_s) as shared:
        yield shared


def as_caller(campaign: Campaign, key: str | None, *, retry: RetryPolicy = RETRY) -> HttpVictim:
    """The victim of ``campaign`` under ``key``, not yet entered; as patient as the campaign is."""
    return HttpVictim(
        campaign.url,
        campaign.model,
        api_key=key,
        shape=campaign.shape,
        softmax=campaign.softmax,
        seed=campaign.seed,
        timeout_s=campaign.timeout_s,
        retry=retry.for_as_long_as(campaign.patience_s),
    )
