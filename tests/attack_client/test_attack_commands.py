"""Every attack from the command line, from flags to rows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from attack_client.attacks.registry import BUILT_IN
from attack_client.cli import attack
from attack_client.report import read_json
from attack_client.transfer_set import TransferSet
from tests.attack_client.conftest import FORMS, Serve
from tests.attack_client.stub import LinearModel, Stub, quarters


def run(kind: str, url: str, root: Path, out: Path, *more: str) -> Result:
    given = {
        "--url": url, "--model": "toy", "--pool": "task", "--test": "task", "--clone": "cnn-small",
        "--epochs": "1", "--latency-requests": "0", "--device": "cpu", "--data-root": str(root),
        "--budget": "60", "--out": str(out),
    }  # fmt: skip
    arguments = [kind, *(part for pair in given.items() for part in pair), *more]
    clean = {"INTAGLIO_API_KEY": None, "INTAGLIO_OPERATOR_KEY": None}
    return CliRunner().invoke(attack, arguments, env=clean)


def test_help_lists_every_attack() -> None:
    listed = CliRunner().invoke(attack, ["--help"]).output
    assert all(f"  {kind} " in listed for kind in BUILT_IN)
    for kind in BUILT_IN:
        text = CliRunner().invoke(attack, [kind, "--help"]).output
        assert "--budget" in text
        assert "installed package" not in text, f"{kind} is not described"


@pytest.mark.parametrize(
    ("kind", "more", "configuration"),
    [
        ("knockoff", ("strategy=adaptive", "reward=loss", "stride=20"), "clone='cnn-small'"),
        ("jbda", ("seeds=20", "step=0.1", "epochs=1"), "labels='soft'"),
        ("jbda-tr", ("seeds=20", "step=strong", "epochs=1"), "steps=5"),
        ("composite", ("parts=3",), "parts=3"),
    ],
)
@FORMS
def test_an_attack_is_run_with_its_options_and_the_clone_that_it_is_for(
    model: LinearModel,
    serve: Serve,
    npz_root: Path,
    tmp_path: Path,
    form: Mapping[str, Any],
    kind: str,
    more: tuple[str, ...],
    configuration: str,
) -> None:
    settings = [part for option in more for part in ("--set", option)]
    stub, out = Stub(model, **form), tmp_path / "run"
    with serve(stub) as url:
        result = run(kind, url, npz_root, out, "--labels", "soft,hard", *settings)
    assert result.exit_code == 0, result.output
    rows = read_json(out / "report.json").rows
    steered = " (steered by soft answers)" if kind.startswith("jbda") else ""
    assert [(row.attack, row.labels, row.queries) for row in rows] == [
        (kind, "soft", 60),
        (kind + steered, "hard", 60),
    ]
    assert stub.samples == 60 + rows[0].evaluation_queries
    with TransferSet.read(out / "transfer") as stolen:
        assert configuration in stolen.provenance.configuration
    published = 20 + 40 + 60 if kind.startswith("jbda") else None
    assert [row.published_queries for row in rows] == [published, published]


def test_hard_clones_alone_are_made_of_a_theft_by_hard_labels(
    model: LinearModel, serve: Serve, npz_root: Path, tmp_path: Path
) -> None:
    with serve(Stub(model)) as url:
        more = ("--labels", "hard", "--set", "seeds=30", "--set", "epochs=1")
        assert run("jbda", url, npz_root, tmp_path, *more).exit_code == 0
    with TransferSet.read(tmp_path / "transfer") as stolen:
        assert "labels='hard'" in stolen.provenance.configuration


def test_new_images_in_every_epoch_are_paid_for(
    model: LinearModel, serve: Serve, npz_root: Path, tmp_path: Path
) -> None:
    stub = Stub(model)
    with serve(stub) as url:
        refused = run("composite", url, npz_root, tmp_path, "--set", "per_epoch=25")
        assert refused.exit_code == 2
        assert "60 queries is not a whole number of epochs of 25" in " ".join(
            refused.output.split()
        )
        assert not stub.requests
        done = run("composite", url, npz_root, tmp_path, "--set", "per_epoch=20")
    assert done.exit_code == 0, done.output
    (row,) = read_json(tmp_path / "report.json").rows
    assert (row.queries, row.unique_queries) == (60, 60)


@FORMS
def test_a_theft_with_maps_ends_in_a_row_per_lambda(
    model: LinearModel, serve: Serve, npz_root: Path, tmp_path: Path, form: Mapping[str, Any]
) -> None:
    stub = Stub(model, maps=True, **form)
    with serve(stub) as url:
        more = ("--lambda", "1,10", "--interpreter", "gradient-x-input", "--labels", "soft,hard")
        result = run("attribution", url, npz_root, tmp_path, *more)
    assert result.exit_code == 0, result.output
    rows = read_json(tmp_path / "report.json").rows
    told = [f"attribution(lambda={weight}, gradient-x-input)" for weight in (1, 10)]
    assert [row.attack for row in rows] == 2 * ["attribution(lambda=0)", *told]
    assert stub.explained == 60, "honest queries ask for no maps"
    with TransferSet.read(tmp_path / "transfer") as stolen:
        images, _ = stolen.prefix(60)
        np.testing.assert_array_equal(stolen.maps(0, 60), quarters(images))
    shown = CliRunner().invoke(attack, ["show", str(tmp_path)]).output
    assert "maps             2x2" in shown


@pytest.mark.parametrize(
    ("kind", "more", "sentence"),
    [
        ("attribution", (), "announces no maps, which attack 'attribution' learns from"),
        ("attribution", ("--lambda", "-1"), "--lambda must be a finite number >= 0"),
        ("attribution", ("--lambda", "much"), "give a number, or several with commas"),
        ("attribution", ("--interpreter", "lime"), "'lime' is not one of"),
        ("knockoff", ("--set", "strategy=greedy"), "strategy must be random or adaptive"),
        ("jbda", ("--set", "step=0.001"), "rounded away"),
        ("jbda", ("--set", "seeds=601"), "begins with 601 seeds but pool task has 600"),
        ("composite", ("--set", "parts=1"), "parts must be between 2 and 1000"),
        ("composite", ("--set", "per_epoch=20", "--holdout", "0.1"), "goes without a holdout"),
        ("composite", ("--set", "per_epoch=20", "--adapt", "sharpen"), "leave out the add-ons"),
        ("jbda", ("--set", "clone=alexnet"), "alexnet"),
        ("jbda", ("--set", "seeds=30", "--adapt", "semi-supervised"), "has only the seeds"),
        ("knockoff", ("--recipe", "knockoffnets"), "schedule.every of the recipe"),
        ("knockoff", ("--recipe", "inii"), "there is no clone recipe 'inii'"),
    ],
)
def test_a_mistake_is_one_sentence_and_costs_no_query(
    model: LinearModel,
    serve: Serve,
    npz_root: Path,
    tmp_path: Path,
    kind: str,
    more: tuple[str, ...],
    sentence: str,
) -> None:
    stub = Stub(model)
    with serve(stub) as url:
        result = run(kind, url, npz_root, tmp_path / "run", *more)
    assert result.exit_code == 2, result.output
    assert sentence in " ".join(result.output.split())
    assert not stub.requests


def test_a_recipe_is_taken_by_name(
    model: LinearModel, serve: Serve, npz_root: Path, tmp_path: Path
) -> None:
    with serve(Stub(model)) as url:
        result = run("knockoff", url, npz_root, tmp_path, "--recipe", "grad2")
    assert result.exit_code == 0, result.output
