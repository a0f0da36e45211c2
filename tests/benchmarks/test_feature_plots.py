from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import nn

from benchmarks.feature_plots import Features, flattened, main, penultimate
from tests.models.builders import tiny_bundle
from tests.training.toys import quadrants, strangers


def test_features_are_what_makes_the_logits() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 5), nn.ReLU(), nn.Linear(5, 3)).eval()
    images = torch.randint(0, 256, (300, 1, 8, 8), dtype=torch.uint8)
    found = penultimate(network, images)
    with torch.no_grad():
        assert torch.allclose(network[3](found), network(images / 255), atol=1e-6)
    assert not network[3]._forward_pre_hooks
    with pytest.raises(ValueError, match="no linear layer"):
        penultimate(nn.Flatten(), images)


def test_strangers_far_away_are_told_from_those_among_the_images() -> None:
    draws = np.random.default_rng(0)
    known, among = draws.normal(size=(2, 100, 4)).astype(np.float32)
    labels = np.zeros(100, dtype=np.int64)
    assert 0.5 < Features("x", known, labels, among).apart() < 2.0
    assert Features("x", known, labels, among + 50).apart() > 20.0
    for method in ("pca", "tsne"):
        flat = flattened(Features("x", known, labels, among + 50), method)
        assert flat.shape == (200, 2)
        assert np.isfinite(flat).all()


def test_a_panel_for_each_bundle_is_drawn(tmp_path: Path) -> None:
    for name, (images, labels) in {
        "quadrants": quadrants(60, 1),
        "strangers": (strangers(60, 3), torch.arange(60) % 3),
    }.items():
        pixels, truth = images[:, 0].numpy(), labels.numpy()
        np.savez(
            tmp_path / f"{name}.npz", x_train=pixels, y_train=truth, x_test=pixels, y_test=truth
        )
    for name in ("one", "two"):
        tiny_bundle(tmp_path / "models", name)
    command = ["--models", str(tmp_path / "models"), "--data", "quadrants", "--ood", "strangers",
               "--data-root", str(tmp_path), "--method", "pca",
               "--out", str(tmp_path / "picture.png")]  # fmt: skip
    done = CliRunner().invoke(main, ["one", "two/1", *command])
    assert done.exit_code == 0, done.output
    assert "one: strangers at " in done.output
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")
    refused = CliRunner().invoke(main, ["three", *command])
    assert refused.exit_code == 1
    assert refused.output.startswith("Error: ")
