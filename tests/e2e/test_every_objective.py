"""Weights of every training objective: their card is readable, the server takes them as they are,
and an answer costs what one of a plain model costs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch.utils.flop_counter import FlopCounterMode

from intaglio.cli import main
from intaglio.objectives import OBJECTIVES
from intaglio.processes import Running, serving
from models.bundle import load_victim, open_bundle, read_card
from models.simplex import GRID, round_to_grid
from tests.training.toys import quadrants, strangers

RECIPE = """
name: {kind}
description: Bright quadrants, {kind}.
architecture: {{name: cnn-small, arguments: {{width: 4}}}}
data: {{train: quadrants, validation_fraction: 0.2{ood}}}
objective: {{kind: {kind}{more}}}
plan: {{epochs: 1, batch_size: 32, deterministic: true}}
"""
MORE = {
    "nasty": ", base: plain",
    "stt": ", base: plain",
    "ast": ", base: plain, adversarial: {iterations: 2}",
    "am": ", options: {lambda_oe: 0.5}",
    "edm": ", ensemble: {members: 3, hash: {data: strangers}}",
}
QUERIES = 24


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of every objective, trained by the command that a user types."""
    torch.set_num_threads(1)
    place = tmp_path_factory.mktemp("objectives")
    for name, (images, labels) in {
        "quadrants": quadrants(120, 1),
        "strangers": (strangers(60, 3), torch.arange(60) % 3),
    }.items():
        pixels, truth = images[:, 0].numpy(), labels.numpy()
        np.savez(place / f"{name}.npz", x_train=pixels, y_train=truth, x_test=pixels, y_test=truth)
    for kind, trainable in OBJECTIVES.items():
        ood = ", ood: strangers" if trainable.objective.needs_ood else ""
        text = RECIPE.format(kind=kind, ood=ood, more=MORE.get(kind, ""))
        (place / f"{kind}.yaml").write_text(text)
        done = CliRunner().invoke(
            main,
            ["train", str(place / f"{kind}.yaml"), "--out", str(place / "out"), "--data-root",
             str(place), "--device", "cpu"],
        )  # fmt: skip
        assert done.exit_code == 0, done.output
    return place


@pytest.fixture(scope="module")
def server(place: Path) -> Iterator[Running]:
    with serving(place / "out") as running:
        yield running


def asked() -> torch.Tensor:
    return quadrants(QUERIES, 7)[0]


@pytest.mark.parametrize("kind", OBJECTIVES)
def test_a_bundle_is_served_as_it_is(kind: str, place: Path, server: Running) -> None:
    images = asked()
    tensor = {
        "name": "images", "datatype": "UINT8", "shape": list(images.shape),
        "data": images.flatten().tolist(),
    }  # fmt: skip
    reply = httpx.post(f"{server.url}/v2/models/{kind}/infer", json={"inputs": [tensor]})
    assert reply.status_code == 200, reply.text
    answers = torch.tensor(reply.json()["outputs"][0]["data"]).view(QUERIES, -1)
    with torch.inference_mode():
        logits = load_victim(open_bundle(place / "out" / kind / "1")).logits(images / 255)
    # A row may lie within the noise of another batch size of a step of the grid.
    assert (answers - round_to_grid(logits.softmax(1), GRID)).abs().max() < 2.5e-5


@pytest.mark.parametrize("kind", OBJECTIVES)
def test_an_answer_costs_what_a_plain_one_does(kind: str, place: Path) -> None:
    def flops(of: torch.nn.Module | str) -> int:
        with torch.inference_mode(), FlopCounterMode(display=False) as counter:
            if isinstance(of, str):
                load_victim(open_bundle(place / "out" / of / "1")).logits(images)
            else:
                of(images)
        return int(counter.get_total_flops())

    images = asked() / 255
    hashing = 0
    if kind == "edm":  # each image is seen by the small hash network and by one member
        hashing = flops(open_bundle(place / "out" / "edm" / "1").load("hash"))
        assert hashing > 0
    assert flops(kind) == flops("plain") + hashing


@pytest.mark.parametrize("kind", OBJECTIVES)
def test_a_card_is_shown_readably(kind: str, place: Path) -> None:
    shown = CliRunner().invoke(
        main, ["models", "show", kind, "--models", str(place / "out")], env={"COLUMNS": "80"}
    )
    assert shown.exit_code == 0, shown.output
    lines = [line.rstrip() for line in shown.output.splitlines()]
    assert lines[:2] == [f"{kind}/1", f"Bright quadrants, {kind}."]
    assert max(map(len, lines)) <= 80
    card = read_card(place / "out" / kind / "1")
    strange = " against strangers" if OBJECTIVES[kind].objective.needs_ood else ""
    blocks = "\n".join(lines).split("\nnetwork ")[1:]
    assert [block.partition("\n")[0] for block in blocks] == list(card.networks)
    for block, (role, network) in zip(blocks, card.networks.items(), strict=True):
        assert f"cnn-small(width=4), {network.parameters:,} parameters" in block
        if role == "hash":
            assert "plain on strangers\n" in block
            continue
        assert f"{kind} on quadrants{strange}\n" in block
        assert "1 epoch, seed 0, weights: last, deterministic" in block
        assert "quadrants validation images" in block
        assert ("options       lambda_oe 0.5" in block) == (kind == "am")
        assert ("base          plain/1" in block) == OBJECTIVES[kind].base


def test_answers_of_bundles_are_measured_side_by_side(place: Path) -> None:
    command = ["models", "measure", "plain", "ast/1", "edm", "--models", str(place / "out"),
               "--data-root", str(place), "--device", "cpu"]  # fmt: skip
    shown = CliRunner().invoke(main, [*command, "--data", "quadrants", "--temperature", "6"])
    assert shown.exit_code == 0, shown.output
    rows = {row.split()[0]: row.split() for row in shown.output.splitlines() if "%" in row}
    assert list(rows) == ["plain", "ast/1", "edm"]
    for name, (_, accuracy, entropy, within, spikes) in rows.items():
        card = read_card(place / "out" / name.partition("/")[0] / "1")
        measured = card.measured or card.networks["victim"].measured
        assert accuracy == f"{measured[-1].accuracy:.2%}"
        assert 0.0 < float(entropy) < np.log10(4)
        assert float(within) > 0.0
        assert 0.0 <= float(spikes) <= 2.0
    command += ["--data", "quadrants"]
    every = CliRunner().invoke(main, [*command, "--by-class"], terminal_width=200)
    assert every.exit_code == 0, every.output
    classes = read_card(place / "out" / "plain" / "1").labels
    lines = [line.split() for line in every.output.splitlines()]
    assert [line[0] for line in lines if len(line) == 9 and line[3] == "0"] == [*classes] * 3
    some = CliRunner().invoke(main, [*command, "--class", classes[1], "--class", "0"])
    lines = [line.split() for line in some.output.splitlines()]
    assert [line[0] for line in lines if len(line) == 9 and line[3] == "0"] == [*classes[:2]] * 3
    unknown = CliRunner().invoke(main, [*command, "--class", "9"])
    assert unknown.exit_code == 2
    assert "there is no class '9'" in unknown.output
    refused = CliRunner().invoke(main, [*command, "--data", "strangers"])
    assert refused.exit_code == 2
    assert "strangers has other labels than plain" in refused.output
