"""What a key may still ask: nothing is sent to be refused, and nothing that is left is left."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from attack_client.attacks.attribution import Attribution
from attack_client.contract import Pool
from attack_client.errors import OverBudget, Refused
from attack_client.query_allowance import Allowance
from attack_client.transfer_set import TransferSet
from tests.attack_client.stub import Fault, LinearModel, Stub
from tests.attack_client.test_known_answers import rob


def budget(used: int | None, limit: int | None, **more: Any) -> Mapping[str, Any]:
    return {"used": used, "limit": limit, **more}


@pytest.mark.parametrize(
    ("usage", "left", "until"),
    [
        ({"today": budget(10, 100, resets_at="tomorrow")}, 90, "tomorrow"),
        ({"today": budget(10, 100), "lifetime": budget(95, 100)}, 5, None),
        ({"today": budget(99, 100, resets_at="noon"), "lifetime": budget(0, None)}, 1, "noon"),
        ({"today": budget(120, 100)}, 0, None),
    ],
)
def test_the_smaller_budget_counts(usage: Mapping[str, Any], left: int, until: str | None) -> None:
    allowance = Allowance.read(usage)
    assert allowance is not None
    assert (allowance.left, allowance.until) == (left, until)


@pytest.mark.parametrize(
    "usage", [{}, {"today": 5}, {"today": budget(None, 10)}, {"lifetime": budget(3, None)}]
)
def test_no_limit_is_no_allowance(usage: Mapping[str, Any]) -> None:
    assert Allowance.read(usage) is None


def today(stub: Stub, limit: int, *, earlier: int = 0) -> dict[str, Any]:
    return {"today": budget(stub.samples - earlier, limit, resets_at="2030-01-01")}


def test_a_theft_stops_at_what_the_key_may_ask(
    model: LinearModel, pool: Pool, tmp_path: Path
) -> None:
    stub = Stub(model)
    stub.usage = lambda: today(stub, 20)
    with pytest.raises(OverBudget, match=r"4 samples are left \(more from 2030-01-01\)"):
        rob(stub, pool, tmp_path, 40)
    assert stub.samples == 16, "not one request was sent to be refused"
    stub.usage = lambda: today(stub, 100)
    rob(stub, pool, tmp_path, 40)
    assert stub.samples == 40


def test_an_answer_with_a_map_costs_what_the_metadata_says(
    model: LinearModel, pool: Pool, tmp_path: Path
) -> None:
    stub = Stub(model, maps=True)
    stub.metadata["outputs"][1]["parameters"] = {"cost": 4}
    stub.usage = lambda: {"lifetime": budget(4 * stub.samples, 100)}
    with pytest.raises(OverBudget, match="4 samples are left"):
        rob(stub, pool, tmp_path, 40, attack=Attribution())
    assert stub.samples == stub.explained == 24, "not one request was sent to be refused"
    with TransferSet.read(tmp_path) as stolen:
        assert stolen.provenance.cost == 4
    # Its operator may charge otherwise meanwhile: it is the same theft.
    stub.metadata["outputs"][1]["parameters"] = {"cost": 2}
    stub.usage = None
    rob(stub, pool, tmp_path, 40, attack=Attribution())
    assert stub.samples == 40
    # Without maps nothing is said of it.
    rob(stub, pool, tmp_path / "plain", 8)
    assert "cost" not in (tmp_path / "plain" / "meta.json").read_text()


def test_a_server_that_refuses_ends_it_with_its_own_words(
    model: LinearModel, pool: Pool, tmp_path: Path
) -> None:
    stub = Stub(model)
    spent = b'{"error": "this API key may ask 100 samples and has 0 left"}'
    stub.faults.extend(
        Fault(status=429, body=spent, headers=(("retry-after", "3600"),)) for _ in "1234"
    )
    with pytest.raises(OverBudget, match=r"has 0 left \(try again in 3600 s with --resume\)"):
        rob(stub, pool, tmp_path, 40)


def test_what_was_charged_before_a_kill_is_not_counted_again(
    model: LinearModel, pool: Pool, tmp_path: Path
) -> None:
    stub = Stub(model, idempotent=True)
    stub.usage = lambda: today(stub, 40)
    stub.faults.extend([None, Fault(status=403, charged=True), Fault(status=403, charged=True)])
    with pytest.raises(Refused, match="403"):
        rob(stub, pool, tmp_path, 40)
    assert stub.samples == 32, "four requests were in flight, and two of the answers are lost"
    rob(stub, pool, tmp_path, 40)
    assert stub.samples == 40


def test_what_was_sent_but_never_charged_is_counted_once_it_is(
    model: LinearModel, pool: Pool, tmp_path: Path
) -> None:
    stub = Stub(model, idempotent=True)
    stub.usage = lambda: today(stub, 36)
    stub.faults.extend([Fault(status=403)] * 4)
    with pytest.raises(Refused, match="403"):
        rob(stub, pool, tmp_path, 40)
    assert stub.samples == 0
    with pytest.raises(OverBudget, match="4 samples are left"):
        rob(stub, pool, tmp_path, 40)
    assert stub.samples == 32


def test_a_budget_that_begins_anew_is_noticed(
    model: LinearModel, pool: Pool, tmp_path: Path
) -> None:
    stub = Stub(model, delay_s=0.002)
    read: list[int] = []

    def usage() -> dict[str, Any]:
        assert stub.in_flight == 0, "only then it is known what was charged"
        read.append(stub.samples)
        day = len(read) - 1
        return today(stub, 20, earlier=[0, 16, 32][day])

    stub.usage = usage
    rob(stub, pool, tmp_path, 50)
    assert stub.samples == 50
    assert read == [0, 16, 32]
