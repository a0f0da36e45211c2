"""What would fail after hours is refused before anything runs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from click.testing import CliRunner

from intaglio.cli import main
from intaglio.leakage.cells import cells_of
from intaglio.leakage.errors import MatrixError
from intaglio.leakage.matrix import Matrix, load_matrix, shipped_matrices
from intaglio.leakage.preflight import preflight
from tests.intaglio.leakage.conftest import GOOD
from tests.models.builders import edit_card, tiny_bundle


def look(written: Mapping[str, Any]) -> None:
    matrix = Matrix.model_validate(written)
    preflight(matrix, cells_of(matrix), data_root=None)


def victim(*changes: str) -> dict[str, Any]:
    return {"victims": {"plain": {"recipe": "digits-plain", "set": list(changes)}}}


def chain(**link: Any) -> dict[str, Any]:
    return {"defenses": {"x": {"victim": "plain", "chain": [link]}}}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (chain(kind="rot"), r"defenses\.x\.chain: .*there is no defense 'rot'"),
        (chain(kind="top-k", k=0), r"defenses\.x\.chain: defenses\[0\]\.k"),
        (chain(kind="top-k", kay=1), r"defenses\.x\.chain: .*kay"),
        ({"clone": {"architecture": "lennet"}}, r"clone\.architecture: there is no arch.*'lennet'"),
        ({"clone": {"architecture": "a.b:c"}}, r"clone\.architecture: .*a\.b:c"),
        (victim("architecture.name=lennet"), r"victims\.plain: .*no architecture 'lennet'"),
        (victim("objective.kind=nope"), r"victims\.plain: objective\.kind: .*'nope'"),
        (victim("data.train=nothing"), r"victims\.plain: data\.train: there is no dataset"),
        (
            {"attacks": {"jbda": {"options": {"clone": "alexnettt"}}}},
            r"attacks\.jbda\.options: there is no architecture 'alexnettt'",
        ),
        (
            {"attacks": {"knockoff": {"options": {"strategy": 3}}}},
            r"attacks\.knockoff: attack knockoff: strategy",
        ),
        (
            {"attacks": {"knockoff": {"adapt": ["sharpen"]}}},
            r"attacks\.knockoff: sharpen changes nothing about hard labels",
        ),
        (
            {
                "budgets": [101],
                "attacks": {"knockoff": {"adapt": ["repeat-averaging:n=2"], "labels": ["soft"]}},
            },
            r"attacks\.knockoff: every image costs 2 queries .* not a multiple",
        ),
        ({"pool": "leters"}, "pool: there is no dataset 'leters'"),
        ({"test": "npz:/no/such.npz"}, r"test: there is no /no/such\.npz"),
        (
            {"attacks": {"jbda": {"pool": "nothing"}}},
            r"attacks\.jbda\.pool: there is no dataset 'nothing'",
        ),
        (
            {"attacks": {"distil": {"learn": {"alpha": 2}}}},
            r"attacks\.distil\.learn: alpha must be in \[0, 1\]",
        ),
        (
            {"attacks": {"distil": {"learn": {"beta": 2}}}},
            r"attacks\.distil\.learn: unexpected keyword argument 'beta'",
        ),
        (
            {"attacks": {"attribution": {"learn": {"weight": -1}}}},
            r"attacks\.attribution\.learn: lambda must be a finite number >= 0",
        ),
        (
            {"attacks": {"knockoff": {"learn": {"alpha": 1}}}},
            r"attacks\.knockoff\.learn: it belongs to distil and attribution, not knockoff",
        ),
    ],
)
def test_it_is_named(changes: dict[str, Any], sentence: str) -> None:
    look(GOOD)
    with pytest.raises(MatrixError, match=sentence):
        look({**GOOD, **changes})


def test_what_is_not_wanted_is_not_looked_at() -> None:
    attacks = {"knockoff": {}, "jbda": {"pool": "nothing"}}
    matrix = Matrix.model_validate({**GOOD, "attacks": attacks})
    preflight(matrix, [one for one in cells_of(matrix) if one.attack != "jbda"], data_root=None)
    preflight(matrix, [], data_root=None)
    with pytest.raises(MatrixError, match=r"attacks\.jbda\.pool"):
        preflight(matrix, cells_of(matrix), data_root=None)


@pytest.mark.parametrize("name", shipped_matrices())
def test_what_is_shipped_passes(name: str, tmp_path: Path) -> None:
    matrix = load_matrix(name)
    images, labels = np.zeros((200, 28, 28), np.uint8), np.arange(200, dtype=np.uint8) % 10
    # What nobody downloads by that name.
    np.savez(
        tmp_path / "kmnist_t10k.npz", x_train=images, y_train=labels, x_test=images, y_test=labels
    )
    preflight(matrix, cells_of(matrix), data_root=tmp_path)


def test_a_dry_run_refuses_it_too(tmp_path: Path) -> None:
    path = tmp_path / "m.yaml"
    text = "name: m\npool: letters\ntest: digits\nclone: {architecture: lennet}\nbudgets: [9]\n"
    path.write_text(
        text + "defenses: {none: {url: 'http://a', model: m}}\nattacks: {knockoff: {}}\n"
    )
    result = CliRunner().invoke(main, ["leakage", str(path), "--dry-run", "--out", str(tmp_path)])
    assert result.exit_code == 2
    assert "clone.architecture: there is no architecture 'lennet'" in result.output


@pytest.mark.parametrize("option", ["--fail-above", "--price-per-thousand"])
@pytest.mark.parametrize("value", ["nan", "inf"])
def test_no_gate_and_no_price_is_no_number(option: str, value: str) -> None:
    result = CliRunner().invoke(main, ["leakage", "digits", option, value, "--dry-run"])
    assert result.exit_code == 2
    assert option in result.output


def test_a_bundle_and_the_test_set_number_their_classes_alike(tmp_path: Path) -> None:
    images, labels = np.zeros((60, 8, 8), np.uint8), np.arange(60, dtype=np.uint8) % 3
    halves: dict[str, Any] = {"y_train": labels, "x_test": images, "y_test": labels}
    victims = {"plain": {"bundle": str(tiny_bundle(tmp_path))}}
    for names, reason in (
        (("a", "b", "c"), None),
        (("c", "b", "a"), "has the labels of toy in another order: class 0 is 'c' in the one"),
        (("a", "b", "d"), "has other labels than toy: class 2 is 'd' in the one"),
    ):
        file = tmp_path / f"{''.join(names)}.npz"
        np.savez(file, x_train=images, class_names=np.array(names), **halves)
        written = {**GOOD, "test": f"npz:{file}", "victims": victims}
        if reason is None:
            look(written)
            continue
        with pytest.raises(MatrixError, match=rf"victims\.plain: npz:.*{names[2]}\.npz {reason}"):
            look(written)


def test_code_of_a_bundle_is_allowed_before_anything_runs(tmp_path: Path) -> None:
    file = tmp_path / "parts_net.py"
    file.write_text("raise SystemExit('nothing is called to look')\n")
    bundle = tiny_bundle(tmp_path)
    name = {"architecture": "parts_net.py:network"}
    edit_card(bundle, lambda card: card["networks"]["victim"].update(name))
    path = tmp_path / "m.yaml"
    written = {**GOOD, "victims": {"plain": {"bundle": str(bundle)}}}
    written["clone"] = {"architecture": "cnn-small"}
    path.write_text(yaml.safe_dump(written))
    command = ["leakage", str(path), "--out", str(tmp_path / "out")]
    for more in ([], ["--dry-run"]):
        refused = CliRunner().invoke(main, [*command, *more])
        assert refused.exit_code == 2
        assert "victims.plain: the architecture 'parts_net.py:network' is code" in refused.output
        assert "start with --allow-factory parts_net.py:network" in refused.output
    assert not (tmp_path / "out").exists()
    allowed = CliRunner().invoke(
        main, [*command, "--dry-run", "--allow-factory", f"{file}:network"]
    )
    assert allowed.exit_code == 0, allowed.output


def test_what_servers_may_call_is_allowed_everywhere() -> None:
    matrix = Matrix.model_validate({**GOOD, "serve": {"allow_factories": ["a.py:net"]}})
    assert matrix.allowing(["b:net", "a.py:net"]).factories == ("b:net", "a.py:net")
