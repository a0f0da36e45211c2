"""Several accounts, one attack: limits, closed keys, waiting."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from attack_client.adaptive.accounts import PASSING_ON, Accounts
from attack_client.adaptive.adaptations import Adaptations
from attack_client.adaptive.shared_victim import SharedVictim, Split
from attack_client.attacks.knockoff import Knockoff
from attack_client.contract import Pool, Reply, VictimFacts
from attack_client.errors import AdaptationError, OverBudget, Refused
from attack_client.http_victim import HttpVictim
from attack_client.query_allowance import Allowance
from attack_client.theft import steal
from tests.attack_client.stub import CLASSES, SHAPE, Fault, LinearModel, Stub


class Account:
    """A victim that answers so many queries under this account."""

    def __init__(self, model: LinearModel, quota: int = 10**9, *, status: int = 429) -> None:
        self.facts = VictimFacts("http://victim", "toy", SHAPE, CLASSES)
        self.quota, self.status, self.after_s = quota, status, 3600.0
        self.asked: list[bytes] = []
        self._model = model

    async def query(
        self,
        images: NDArray[np.uint8],
        *,
        key: str | None = None,
        sending: Callable[[], None] | None = None,
    ) -> Reply:
        del key
        if sending is not None:
            sending()
        if len(self.asked) + len(images) > self.quota:
            if self.status == 429:
                raise OverBudget("no more", status=429, after_s=self.after_s)
            raise Refused("go away", status=self.status)
        self.asked += [image.tobytes() for image in images]
        return Reply(self._model(images))


def rob(
    shared: SharedVictim, pool: Pool, out: Path, budget: int, *, resume: bool = False
) -> NDArray[np.float32]:
    run = steal(
        shared, pool, Knockoff(seed=3), budget=budget, out=out, batch=10, concurrency=2,
        resume=resume,
    )  # fmt: skip
    with asyncio.run(run) as stolen:
        images, answers = stolen.prefix(budget)
        np.testing.assert_array_equal(answers, shared._accounts[0]._model(images))  # type: ignore[attr-defined]
        return answers


def test_an_even_split_asks_every_account(tmp_path: Path, model: LinearModel, pool: Pool) -> None:
    accounts = [Account(model) for _ in range(3)]
    rob(SharedVictim(accounts), pool, tmp_path, 400)
    assert sum(len(account.asked) for account in accounts) == 400
    assert min(len(account.asked) for account in accounts) >= 50


def test_blocks_use_up_one_account_before_the_next(
    tmp_path: Path, model: LinearModel, pool: Pool
) -> None:
    accounts = [Account(model, 60), Account(model, 100), Account(model)]
    rob(SharedVictim(accounts, split="blocks"), pool, tmp_path, 200)
    assert [len(account.asked) for account in accounts] == [60, 100, 40]


@pytest.mark.parametrize("split", ["even", "blocks"])
@pytest.mark.parametrize("status", [401, 403, 429])
def test_what_one_is_refused_another_asks(
    tmp_path: Path, model: LinearModel, pool: Pool, split: Split, status: int
) -> None:
    accounts = [Account(model, 50, status=status), Account(model)]
    rob(SharedVictim(accounts, split=split), pool, tmp_path, 200)
    assert len(accounts[0].asked) + len(accounts[1].asked) == 200
    assert not set(accounts[0].asked) & set(accounts[1].asked)


def test_when_all_are_spent_it_says_so_and_more_accounts_go_on(
    tmp_path: Path, model: LinearModel, pool: Pool
) -> None:
    spent = [Account(model, 60), Account(model, 40, status=401)]
    with pytest.raises(OverBudget, match=r"none of 2 accounts may ask now \(1 closed\): "):
        rob(SharedVictim(spent, split="blocks"), pool, tmp_path, 200)
    closed = SharedVictim([Account(model, 0, status=403)])
    with pytest.raises(Refused, match=r"none of 1 accounts may ask now \(1 closed\): go away"):
        asyncio.run(closed.query(pool.images[:1]))
    fresh = Account(model)
    rob(SharedVictim([*spent, fresh], split="blocks"), pool, tmp_path, 200, resume=True)
    assert len(fresh.asked) == 100


def test_it_waits_for_the_account_that_may_ask_first(model: LinearModel, pool: Pool) -> None:
    now, slept = 100.0, []
    accounts = [Account(model, 0), Account(model, 0)]
    accounts[0].after_s, accounts[1].after_s = 50.0, 20.0

    async def sleep(seconds: float) -> None:
        nonlocal now
        slept.append(seconds)
        now += seconds
        accounts[1].quota = 10

    shared = SharedVictim(accounts, split="blocks", sleep=sleep, clock=lambda: now)
    told: list[None] = []
    reply = asyncio.run(shared.query(pool.images[:4], sending=lambda: told.append(None)))
    assert slept == [20.0]
    assert reply.sends == 3
    assert len(told) == 3, "told of every attempt"
    with pytest.raises(OverBudget, match="none of 1 accounts"):
        asyncio.run(SharedVictim([Account(model, 0)], sleep=sleep).query(pool.images[:1]))


@pytest.mark.parametrize(
    "failure", [OverBudget("enough", status=429, after_s=1.0), Refused("no", status=401)]
)
def test_who_asks_may_stop_and_no_account_is_blamed(
    model: LinearModel, pool: Pool, failure: Refused
) -> None:
    async def sleep(_: float) -> None:
        pytest.fail("nobody is over a limit")

    def stop() -> None:
        raise failure

    async def run() -> Reply:
        shared = SharedVictim([Account(model), Account(model)], sleep=sleep)
        with pytest.raises(Refused) as raised:
            await shared.query(pool.images[:1], sending=stop)
        assert raised.value is failure
        return await shared.query(pool.images[:1])

    assert asyncio.run(run()).sends == 1


class Bounded(Account):
    """One whose budget is for life, or for a day; 429 does not say which, the usage does."""

    def __init__(self, model: LinearModel, quota: int, *, until: str | None) -> None:
        super().__init__(model, quota)
        self.until = until

    async def query(
        self,
        images: NDArray[np.uint8],
        *,
        key: str | None = None,
        sending: Callable[[], None] | None = None,
    ) -> Reply:
        try:
            return await super().query(images, key=key, sending=sending)
        except OverBudget as error:
            raise OverBudget(str(error), status=429) from None

    async def allowance(self) -> Allowance | None:
        return Allowance(self.quota - len(self.asked), until=self.until)


@pytest.mark.parametrize(("until", "waits"), [(None, 0), ("2026-01-02T00:00:00Z", 5)])
def test_nobody_waits_for_a_budget_that_never_begins_anew(
    model: LinearModel, pool: Pool, until: str | None, waits: int
) -> None:
    now, slept = 0.0, 0

    async def sleep(seconds: float) -> None:
        nonlocal now, slept
        now, slept = now + seconds, slept + 1

    accounts = [Bounded(model, 10, until=until), Bounded(model, 3, until=until)]
    shared = SharedVictim(accounts, split="blocks", sleep=sleep, clock=lambda: now)
    asyncio.run(shared.query(pool.images[:10]))
    asyncio.run(shared.query(pool.images[10:13]))
    closed = 2 if until is None else 0
    with pytest.raises(OverBudget, match=rf"none of 2 accounts may ask now \({closed} closed\)"):
        asyncio.run(shared.query(pool.images[13:15]))
    assert slept == waits


@pytest.mark.parametrize(("patience_s", "waited"), [(None, []), (5000.0, [3600.0])])
def test_they_wait_as_patiently_as_they_are_told(
    tmp_path: Path,
    model: LinearModel,
    monkeypatch: pytest.MonkeyPatch,
    patience_s: float | None,
    waited: list[float],
) -> None:
    (tmp_path / "keys").write_text("alpha\nbeta\n")
    spent = b'{"error": "no more"}'
    slept: list[float] = []
    stub = Stub(model)
    stub.faults.extend([Fault(status=429, body=spent, headers=(("retry-after", "3600"),))] * 2)

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    patched = functools.partial(SharedVictim, sleep=sleep, clock=lambda: sum(slept))
    monkeypatch.setattr("attack_client.adaptive.accounts.SharedVictim", patched)

    def victim(key: str) -> HttpVictim:
        transport = httpx.ASGITransport(stub)
        return HttpVictim(
            "http://victim", "toy", api_key=key, retry=PASSING_ON, transport=transport
        )

    async def ask() -> None:
        accounts = Accounts(file=str(tmp_path / "keys"))
        async with accounts.open(victim, patience_s=patience_s) as shared:
            await shared.query(model.images(1))

    if waited:
        asyncio.run(ask())
    else:
        with pytest.raises(OverBudget, match="none of 2 accounts may ask now"):
            asyncio.run(ask())
    assert slept == waited


def test_other_refusals_are_no_matter_of_the_account(model: LinearModel, pool: Pool) -> None:
    accounts = [Account(model, 0, status=413), Account(model)]
    with pytest.raises(Refused, match="go away"):
        asyncio.run(SharedVictim(accounts, split="blocks").query(pool.images[:1]))
    assert not accounts[1].asked


def test_accounts_are_of_one_victim(model: LinearModel) -> None:
    other = Account(model)
    other.facts = VictimFacts("http://elsewhere", "toy", SHAPE, CLASSES)
    with pytest.raises(AdaptationError, match="one victim"):
        SharedVictim([Account(model), other])


def test_keys_come_from_a_file_and_are_never_shown(tmp_path: Path) -> None:
    file = tmp_path / "keys.txt"
    file.write_text("# mine\nalpha-key\n\nbeta-key  # a friend's\n")
    adaptations = Adaptations.of([f"accounts:file={file},split=blocks"])
    accounts = adaptations.accounts
    assert accounts is not None
    assert accounts.keys() == ("alpha-key", "beta-key")
    assert repr(accounts) == "accounts(split='blocks')"
    assert adaptations.title("knockoff") == "knockoff+accounts(split=blocks)"
    assert repr(adaptations.adapt(Knockoff())) == "knockoff(seed=0) via accounts(split='blocks')"


@pytest.mark.parametrize("text", ["alpha\n", "alpha\nalpha\n", "# nothing\n"])
def test_a_file_without_two_keys_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "keys.txt"
    file.write_text(text)
    adaptations = Adaptations.of([f"accounts:file={file}"])
    with pytest.raises(AdaptationError, match="two different keys") as refused:
        adaptations.check(labels=["soft"], budgets=[10], pool=20)
    assert "alpha" not in str(refused.value)
    with pytest.raises(AdaptationError, match="cannot read"):
        Accounts(file=str(tmp_path / "none")).keys()


def test_an_account_over_its_limit_does_not_wait() -> None:
    assert 429 not in PASSING_ON.statuses
    assert 503 in PASSING_ON.statuses
