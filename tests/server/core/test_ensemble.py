"""An ensemble is served like a single network: same answers, and one pass a query."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from models.ensemble import RoutedEnsemble
from models.simplex import GRID
from server.engine import Engine
from server.errors import ConfigurationError
from server.metrics import Metrics
from server.repository import load_models
from server.served import ServedModel
from server.settings import Settings
from tests.server.core.conftest import write

DRAWS = np.random.default_rng(1)
# Four dark or bright fields, so that the images are not all alike to the hash.
FIELDS = DRAWS.integers(0, 256, (64, 1, 2, 2), dtype=np.uint8).repeat(6, axis=2).repeat(6, axis=3)
NOISE = FIELDS // 2 + DRAWS.integers(0, 128, FIELDS.shape, dtype=np.uint8)
ROLES = ("victim", "member-1", "member-2", "member-3", "member-4", "hash")
TOP_2 = {"kind": "top-k", "k": 2}
LABEL = {"kind": "label-only"}

Load = Callable[..., ServedModel]


@pytest.fixture
def load(settings: Callable[..., Settings], device: torch.device, tmp_path: Path) -> Load:
    write(tmp_path, "five", "1", *ROLES, objective="edm", seed=5)

    def load_one(*defenses: dict[str, object]) -> ServedModel:
        models = {"m": {"victim": "five", "defenses": defenses}}
        return load_models(settings(model_dir=tmp_path, models=models), device)[0]

    return load_one


@pytest.fixture
def engine(device: torch.device, metrics: Metrics) -> Engine:
    return Engine(device, secret=b"a secret of some length", metrics=metrics)


@pytest.mark.parametrize("defenses", [(), (TOP_2,), (LABEL,)], ids=["edm", "top-k", "label-only"])
def test_a_mixed_batch_gets_the_answers_that_each_image_gets_alone(
    engine: Engine, load: Load, device: torch.device, defenses: tuple[dict[str, object], ...]
) -> None:
    served = load(*defenses)
    members = served.victim.route(torch.from_numpy(NOISE).to(device) / 255.0)
    assert len(set(members.tolist())) > 2
    alone = np.concatenate([engine.run(served, [row[None]]).probabilities for row in NOISE])
    for answers in (
        engine.run(served, [NOISE]).probabilities,
        engine.run(served, np.split(NOISE, 8)).probabilities,
        engine.run(served, [NOISE[::-1]]).probabilities[::-1],
    ):
        distance = np.abs(answers - alone).max(axis=1)
        assert (distance > 1e-6).mean() <= 0.05  # the edge of a step of the grid, by one step
        assert distance.max() < 1e-4
    if not defenses:
        units = alone.astype(np.float64) * GRID
        np.testing.assert_allclose(units, units.round(), atol=0.01)


def test_each_query_costs_one_member_and_the_hash(engine: Engine, load: Load) -> None:
    served = load()
    assert isinstance(served.victim, RoutedEnsemble)
    seen: list[int] = []
    for member in served.victim.members:
        member.register_forward_hook(lambda module, inputs, output: seen.append(len(inputs[0])))
    hashed: list[int] = []
    served.victim.hashing.register_forward_hook(
        lambda module, inputs, output: hashed.append(len(inputs[0]))
    )
    engine.run(served, [NOISE])
    assert sum(seen) == sum(hashed) == len(NOISE)
    assert 1 < len(seen) <= 5


def test_an_ensemble_needs_no_entry_in_the_chain_and_warns_of_nothing(
    load: Load, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    served = load(TOP_2)
    assert served.chain.name == "top-k"
    assert "weights five/1 (objective: edm)" in caplog.text
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    with pytest.raises(
        ConfigurationError, match=r"models\.m\.defenses\[0\]\.kind: edm is not a link"
    ):
        load({"kind": "edm"})


def test_a_member_can_be_lent_to_another_defense(
    settings: Callable[..., Settings], device: torch.device, tmp_path: Path
) -> None:
    write(tmp_path, "five", "1", *ROLES, objective="edm", seed=5)
    mad = {"kind": "mad", "epsilon": 0.5, "surrogate": "network"}
    models = {"m": {"victim": "five", "defenses": [mad], "roles": {"surrogate": "five#member-1"}}}
    (served,) = load_models(settings(model_dir=tmp_path, models=models), device)
    assert served.chain.name == "mad"
