"""The YAML of a matrix: what is wrong is named, what is shipped can be run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from attack_client.adaptive.registry import kinds
from attack_client.adaptive.spec import Spec
from intaglio.leakage.cells import cells_of, digest
from intaglio.leakage.errors import MatrixError
from intaglio.leakage.matrix import load_matrix, shipped_matrices
from intaglio.leakage.only import Only
from tests.intaglio.leakage.conftest import GOOD, matrix_of

ROT: Mapping[str, Any] = {"victim": "plain", "chain": [{"kind": "rot"}]}


def load(tmp_path: Path, **changes: Any) -> None:
    path = tmp_path / "matrix.yaml"
    path.write_text(yaml.safe_dump({**GOOD, **changes}))
    load_matrix(str(path))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"budget": [5]}, "budget: there is no such key; did you mean budgets"),
        ({"clone": {"architecture": "lenet", "epoch": 3}}, "clone.epoch: there is no such key"),
        ({"attacks": {"knockoff": {"label": ["soft"]}}}, "attacks.knockoff.label: there is no"),
        (
            {"attacks": {"three": {"attack": "composite", "parts": 3}}},
            "attacks.three.parts: it is an option of composite: put it under options, as in "
            "options: {parts: 3}",
        ),
        ({"defenses": {"none": {"victim": "plane"}}}, "defenses.none.victim: there is no 'plane'"),
        ({"defenses": {"none": {}}}, "give either victim, to be served here, or url"),
        (
            {"defenses": {"none": {"victim": "plain", "url": "http://a"}}},
            "give either victim, to be served here, or url",
        ),
        ({"defenses": {"none": {"url": "http://a"}}}, "a running server needs model"),
        (
            {"defenses": {"none": {"url": "http://a", "model": "m", "chain": [{"kind": "x"}]}}},
            "are the running server's own",
        ),
        ({"victims": {"plain": {}}}, "give either recipe or bundle"),
        ({"reference": "other"}, "reference: there is no 'other'"),
        ({"budgets": []}, "budgets"),
        ({"budgets": [0]}, "budgets.0"),
        ({"attacks": {"knockoff": {"defenses": ["am"]}}}, "attacks.knockoff.defenses: there is no"),
        ({"gate": {"defenses": {"am": 0.5}}}, "gate.defenses: there is no 'am'"),
        ({"gate": {"fail_above": -1}}, "gate.fail_above"),
        ({"serve": {"port": 80}}, "serve.port: that is decided by the matrix"),
        (
            {"attacks": {"knockoff": {"known_defense": "chain"}}, "defenses": {"x": ROT}},
            "attacks.knockoff.known_defense: x: defenses[0].kind: there is no defense 'rot'",
        ),
        (
            {"attacks": {"knockoff": {"more_seeds": {"am": [1]}}}},
            "knockoff.more_seeds: there is no",
        ),
        (
            {
                "victims": {
                    "plain": {"recipe": "digits-plain", "base": "b"},
                    "b": {"recipe": "digits-plain", "reference": "plain"},
                }
            },
            "it waits for itself",
        ),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, changes: dict[str, Any], sentence: str) -> None:
    load(tmp_path)
    with pytest.raises(MatrixError, match=re.escape(sentence)):
        load(tmp_path, **changes)


def test_a_file_that_is_none_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(MatrixError, match="one of digits, mnist"):
        load_matrix("nowhere.yaml")
    path = tmp_path / "m.yaml"
    path.write_text("name: a\nname: b\n")
    with pytest.raises(MatrixError, match="given twice"):
        load_matrix(str(path))


@pytest.mark.parametrize("name", shipped_matrices())
def test_every_cell_of_a_shipped_matrix_has_a_digest_of_its_own(name: str) -> None:
    matrix = load_matrix(name)
    cells = cells_of(matrix)
    assert len({digest(matrix, cell) for cell in cells}) == len(cells)
    assert matrix.description


def test_every_add_on_has_a_cell_in_the_large_matrix() -> None:
    matrix = load_matrix("mnist")
    tried = {
        Spec.parse(text).name
        for cell in cells_of(matrix)
        for text in matrix.attacks[cell.attack].adapt
    }
    # Accounts change who asks, and not what is answered.
    assert tried == set(kinds()) - {"accounts"}


def test_an_unknown_attack_or_option_is_named() -> None:
    for attacks, sentence in (
        ({"nockoff": {}}, "attacks.nockoff: there is no attack 'nockoff'"),
        ({"knockoff": {"options": {"sed": 1}}}, "attacks.knockoff: attack knockoff has no option"),
        ({"knockoff": {"adapt": ["shapen"]}}, "attacks.knockoff: there is no add-on 'shapen'"),
    ):
        matrix = matrix_of("http://victim", attacks=attacks)
        with pytest.raises(MatrixError, match=sentence):
            digest(matrix, cells_of(matrix)[0])


def test_only_takes_any_of_one_key_and_all_of_several() -> None:
    matrix = matrix_of("http://victim", seeds=[0, 1])
    cells = cells_of(matrix)
    assert len(cells) == 2 * 1 * 2 * 2 * 2
    only = Only.parse(["seed=1,defense=none", "budget=2_0"], matrix)
    assert [str(cell) for cell in cells if cell in only] == [
        "none, knockoff, soft, 20, seed 1",
        "none, knockoff, hard, 20, seed 1",
    ]
    both = Only.parse(["defense=none,defense=label-only"], matrix)
    assert all(cell in both for cell in cells)
    for text, sentence in (
        ("seed", "must look like KEY=VALUE"),
        ("colour=red", "must look like KEY=VALUE"),
        ("defense=am", "there are none, label-only"),
        ("seed=7", "seed=7: there is none: there are 0, 1"),
        ("budget=21", "budget=21: there is none"),
        ("labels=firm", "labels=firm: there is none: there are soft, hard"),
    ):
        with pytest.raises(MatrixError, match=sentence):
            Only.parse([text], matrix)


def test_a_part_that_is_no_cell_is_refused() -> None:
    attacks: dict[str, Any] = {"knockoff": {}, "once": {"attack": "knockoff", "seeds": [0]}}
    matrix = matrix_of("http://victim", seeds=[0, 1], attacks=attacks)
    with pytest.raises(MatrixError, match="attack=once,seed=1: no cell has all of that"):
        Only.parse(["attack=once,seed=1"], matrix)


def test_the_matrix_on_the_page_is_one(tmp_path: Path) -> None:
    page = Path(__file__).parents[3] / "docs" / "leakage.md"
    text = page.read_text(encoding="utf-8").partition("```yaml\n")[2].partition("```")[0]
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    matrix = load_matrix(str(path))
    assert len({digest(matrix, cell) for cell in cells_of(matrix)}) == len(cells_of(matrix))


def test_a_part_is_told_as_it_was_typed() -> None:
    matrix = matrix_of("http://victim", seeds=[0, 1])
    text = "defense=label-only,defense=none,seed=1"
    assert str(Only.parse(["seed=1", "defense=none,defense=label-only"], matrix)) == text
    assert Only.parse([text], matrix) == Only.parse(
        ["defense=none,defense=label-only,seed=1"], matrix
    )


def test_an_attack_may_have_more_seeds_where_it_turned_out_strongest() -> None:
    attacks = {"knockoff": {"seeds": [0], "labels": ["soft"], "more_seeds": {"none": [0, 1, 2]}}}
    matrix = matrix_of("http://victim", seeds=[0, 1, 2], budgets=[20], attacks=attacks)
    assert [(cell.defense, cell.seed) for cell in cells_of(matrix)] == [
        ("none", 0),
        ("label-only", 0),
        ("none", 1),
        ("none", 2),
    ]


def test_how_clones_learn_is_part_of_the_digest() -> None:
    def key(learn: dict[str, Any]) -> str:
        matrix = matrix_of("http://victim", attacks={"distil": {"learn": learn}})
        return digest(matrix, cells_of(matrix)[0])

    assert key({}) != key({"alpha": 0.5}) != key({"alpha": 0.9})
