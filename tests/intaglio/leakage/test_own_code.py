"""A bundle and a clone of an architecture of the user's own, from the command line to the table."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from click.testing import CliRunner

from attack_client.predictions import predict
from intaglio.cli import main
from models.bundle import open_bundle
from tests.attack_client.stub import LinearModel
from tests.attack_client.test_cli import plain_bundle

NETWORK = """
from models.architectures.cnn_small import cnn_small

def network(*, channels, size, outputs):
    return cnn_small(channels=channels, size=size, outputs=outputs)
"""


def test_one_flag_allows_it_everywhere(
    model: LinearModel, npz_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    factory = f"{tmp_path / 'parts_net.py'}:network"
    (tmp_path / "parts_net.py").write_text(NETWORK)
    bundle = plain_bundle(tmp_path / "bundles", model, architecture=factory)
    with np.load(npz_root / "task.npz") as arrays:
        images = arrays["x_test"]
        # Right is what the victim says, so that no clone is better than it.
        right = predict(
            open_bundle(bundle, allow_factories=[factory]).load("victim"), images[:, np.newaxis]
        ).argmax(axis=1)
        task = {**arrays, "y_test": right.astype(np.uint8)}
    np.savez(npz_root / "task.npz", **task)
    path = tmp_path / "own.yaml"
    written = {
        "name": "own",
        "pool": "noise",
        "test": "task",
        "reference": "plain",
        "clone": {"architecture": factory, "epochs": 1},
        "budgets": [20],
        "latency_requests": 2,
        "victims": {"plain": {"bundle": str(bundle)}},
        "defenses": {"none": {"victim": "plain"}, "rounded": {"victim": "plain", "chain": [
            {"kind": "rounding", "decimals": 2}]}},
        "attacks": {"knockoff": {"labels": ["soft"]}},
    }  # fmt: skip
    path.write_text(yaml.safe_dump(written))
    # What the environment allows besides is not what the flag says.
    monkeypatch.setenv("INTAGLIO_ALLOW_FACTORIES", json.dumps(["other.py:network"]))
    arguments = ["leakage", str(path), "--out", str(tmp_path / "out"), "--jobs", "1"]
    arguments += ["--data-root", str(npz_root), "--device", "cpu", "--fail-above", "2"]
    result = CliRunner().invoke(main, [*arguments, "--allow-factory", factory])
    assert result.exit_code == 0, result.output
    assert "2 of 2 cells are done." in result.output
    assert "PASSED rounded: knockoff with soft labels and 20 queries makes" in result.output
    assert "training plain" not in result.output, "a bundle is not trained"
    said = (tmp_path / "out" / "report.md").read_text()
    assert f"own.yaml --fail-above 2 --jobs 1 --allow-factory {factory}" in said
