"""What an attacker knows of a chain, or copies of it, in a matrix that is served here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from rich.console import Console

from intaglio.leakage.cells import cells_of, digest, theft_digest
from intaglio.leakage.errors import MatrixError
from intaglio.leakage.kept import Kept
from intaglio.leakage.matrix import Matrix
from intaglio.leakage.measure import gather, have
from intaglio.leakage.only import Only
from intaglio.leakage.victims import needed_victims
from models.architectures import build
from models.bundle import NetworkSource, write_bundle
from models.card import InputSpec
from tests.attack_client.stub import CLASSES, SHAPE
from tests.intaglio.leakage.conftest import Inline, matrix_of
from tests.models.builders import HALF

SIGMOID = {"kind": "reverse-sigmoid", "beta": 0.5}


def bundle(root: Path, name: str, seed: int) -> Path:
    channels, height, width = SHAPE
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        network = build(
            "cnn-small", channels=channels, size=(height, width), outputs=CLASSES,
            normalisation=HALF, arguments={"width": 2},
        )  # fmt: skip
    return write_bundle(
        root,
        name=name,
        version="1",
        description="",
        input=InputSpec(channels=1, height=height, width=width),
        labels=[str(label) for label in range(CLASSES)],
        networks={"victim": NetworkSource(network, "cnn-small", HALF, {"width": 2})},
    )


def knowing(**attack: Any) -> Matrix:
    return matrix_of(
        "",
        victims={
            "plain": {"recipe": "digits-plain"},
            "second": {"recipe": "digits-plain"},
            "own": {"recipe": "digits-am"},
        },
        defenses={"rs": {"victim": "plain", "chain": [SIGMOID]}},
        attacks={"knockoff": attack},
    )


def test_knowledge_decides_a_result_and_not_what_is_asked() -> None:
    def digests(**attack: Any) -> tuple[str, str]:
        matrix = knowing(adapt=["recover"], labels=["soft"], budgets=[40], **attack)
        (cell,) = cells_of(matrix)
        return digest(matrix, cell), theft_digest(matrix, cell)

    found = [
        digests(known_defense="chain"),
        digests(known_defense="a:b"),
        digests(known_defense="a:b", known_options={"c": 1}),
        digests(shadow={"victim": "own"}),
        digests(shadow={"victim": "own", "roles": {"misinformation": "own"}}),
        digests(shadow={"victim": "own", "plain": "plain"}),
    ]
    assert len({result for result, _ in found}) == 6
    assert len({theft for _, theft in found}) == 1


def test_what_a_shadow_needs_is_trained_where_it_is_used() -> None:
    matrix = knowing(shadow={"victim": "own"})
    assert needed_victims(matrix, "rs", ["knockoff"]) == ("plain", "own")
    assert needed_victims(matrix, "rs", []) == ("plain",)
    matrix = knowing(shadow={"victim": "own", "plain": "second"})
    assert needed_victims(matrix, "rs", ["knockoff"]) == ("plain", "second", "own")


@pytest.mark.parametrize(
    ("attack", "chain", "sentence"),
    [
        ({"shadow": {"victim": "other"}}, [SIGMOID], "shadow.victim: there is no 'other'"),
        (
            {"shadow": {"victim": "own", "plain": "other"}},
            [SIGMOID],
            "shadow.plain: there is no 'other'",
        ),
        ({"shadow": {"victim": "own"}}, [], "shadow.plain: rs has no links"),
        (
            {"shadow": {"victim": "own", "roles": {"misinformation": "x#victim"}}},
            [SIGMOID],
            "shadow.roles.misinformation: there is no 'x'",
        ),
        (
            {"known_defense": "chain"},
            [{"kind": "dd-s"}],
            "known_defense: rs: dd-s is not a function",
        ),
        ({"known_defense": "chain"}, [{"kind": "am"}], "known_defense: rs: am is not a function"),
    ],
)
def test_what_cannot_be_known_is_named(
    attack: dict[str, Any], chain: list[dict[str, Any]], sentence: str
) -> None:
    matrix = knowing(**attack)
    defended = matrix.defenses["rs"].model_copy(update={"chain": tuple(chain)})
    with pytest.raises(MatrixError, match=sentence):
        matrix.model_copy(update={"defenses": {"rs": defended}}).check()


@pytest.mark.parametrize("attack", [{"known_defense": "chain"}, {"shadow": {"victim": "own"}}])
def test_of_a_running_server_nothing_is_known(attack: dict[str, Any]) -> None:
    matrix = matrix_of(
        "http://a", victims={"own": {"recipe": "digits-plain"}}, attacks={"knockoff": attack}
    )
    with pytest.raises(MatrixError, match="which is not known here"):
        matrix.check()


def test_options_without_a_factory_are_refused() -> None:
    with pytest.raises(ValueError, match="known_options are those of a factory"):
        knowing(known_defense="chain", known_options={"beta": 1})


def test_a_chain_that_is_known_and_one_that_is_copied_are_undone(
    npz_root: Path, tmp_path: Path
) -> None:
    root = tmp_path / "bundles"
    victims = {
        name: {"bundle": str(bundle(root, name, seed))}
        for name, seed in (("plain", 1), ("own", 2), ("bare", 3))
    }
    add_on = ["recover:samples=100,epochs=1"]
    common = {"attack": "knockoff", "adapt": add_on, "labels": ["soft"], "budgets": [40]}
    matrix = matrix_of(
        "",
        victims=victims,
        defenses={
            "rs+x": {"victim": "plain", "chain": [SIGMOID]},
            "woven": {"victim": "plain"},  # as if the defense were in its weights
        },
        attacks={
            "knockoff": {"labels": ["soft"], "budgets": [40], "defenses": ["rs+x"]},
            "known": {**common, "known_defense": "chain", "defenses": ["rs+x"]},
            "copied": {**common, "shadow": {"victim": "own"}, "defenses": ["rs+x"]},
            "weights": {
                **common,
                "shadow": {"victim": "own", "plain": "bare"},
                "defenses": ["woven"],
            },
        },
    )
    matrix.check()
    kept = Kept(tmp_path / "out")
    have(
        matrix, Only(), kept, Inline(), data_root=npz_root, device="cpu", threads=1,
        console=Console(quiet=True),
    )  # fmt: skip
    outcome = gather(matrix, kept, command=[], device="cpu")
    assert [(s.attack, s.state, s.reason) for s in outcome.statuses] == [
        (name, "done", None) for name in ("knockoff", "known", "copied", "weights")
    ]
    assert len(list((tmp_path / "out" / "thefts").rglob("records.bin"))) == 2
    # Three clones of one theft, each of its own answers.
    assert len(list((tmp_path / "out" / "clones").glob("*.safetensors"))) == 4
    (config,) = (tmp_path / "out" / "servers").glob("woven-*/serve.yaml")
    models = yaml.safe_load(config.read_text())["models"]
    assert {name: model["victim"] for name, model in models.items()} == {
        "woven": "plain/1",
        "woven-shadow-0": "own/1",
        "woven-shadow-0-plain": "bare/1",
    }
