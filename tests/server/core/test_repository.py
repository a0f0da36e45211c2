"""From bundles and configuration to what is served; every mistake is one sentence with its key."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from server.errors import ConfigurationError
from server.repository import load_models
from server.served import ServedModel
from server.settings import Settings
from tests.server.core.conftest import write

CPU = torch.device("cpu")
AM = {"kind": "am", "threshold": 0.5}

Build = Callable[..., Settings]


def names(served: tuple[ServedModel, ...]) -> list[tuple[str, str, str]]:
    return [(model.name, model.version, model.chain.name) for model in served]


def test_without_a_list_every_version_is_served_undefended_oldest_first(settings: Build) -> None:
    assert names(load_models(settings(), CPU)) == [
        ("defended", "1", "none"),
        ("digits", "2", "none"),
        ("digits", "10", "none"),
    ]


def test_with_a_list_exactly_that_is_served(settings: Build) -> None:
    models = {
        "shop": {"victim": "defended", "defenses": [AM, {"kind": "rounding", "decimals": 2}]},
        "digits": {},
        "old": {"victim": "digits/2"},
    }
    served = load_models(settings(models=models), CPU)
    assert names(served) == [
        ("digits", "10", "none"),
        ("old", "2", "none"),
        ("shop", "1", "am+rounding"),
    ]
    assert [model.weights for model in served] == ["digits/10", "digits/2", "defended/1"]


def test_a_role_may_come_from_another_bundle(settings: Build) -> None:
    models = {
        "m": {
            "victim": "digits/2",
            "defenses": [AM],
            "roles": {"misinformation": "defended/1#misinformation"},
        }
    }
    assert names(load_models(settings(models=models), CPU)) == [("m", "2", "am")]


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"victim": "letters"}, r"models\.m\.victim: there is no bundle 'letters'"),
        ({}, r"models\.m\.victim: there is no bundle 'm'"),
        ({"victim": "digits", "defenses": [AM]}, r"models\.m\.defenses\[0\].*misinformation"),
        (
            {"victim": "digits", "defenses": [{"kind": "top-k", "k": 11}]},
            r"models\.m\.defenses\[0\]\.k: must be at most 10",
        ),
        (
            {"victim": "defended", "defenses": [{"kind": "am", "threshold": 1.5}]},
            r"models\.m\.defenses\[0\]\.threshold: must be between 0 and 1, not 1\.5",
        ),
        (
            {"victim": "digits", "defenses": [{"kind": "top-k", "q": 1}]},
            r"models\.m\.defenses\[0\]\.q: ",
        ),
        ({"victim": "digits", "defenses": [{"kind": "moat"}]}, r"models\.m\.defenses\[0\]\.kind: "),
        (
            {"victim": "defended", "defenses": [{"kind": "label-only"}, AM]},
            r"models\.m\.defenses\[1\]: am must not follow label-only",
        ),
        (
            {"victim": "digits", "roles": {"misinformation": "defended#misinformation"}},
            r"models\.m\.roles\.misinformation: no defense of this model needs it",
        ),
        (
            {"victim": "digits", "defenses": [AM], "roles": {"misinformation": "defended/1"}},
            r"models\.m\.roles\.misinformation: .* write NAME/VERSION#ROLE",
        ),
        (
            {"victim": "digits", "defenses": [AM], "roles": {"misinformation": "defended#hash"}},
            r"models\.m\.roles\.misinformation: .*no network 'hash'",
        ),
        (
            {
                "victim": "digits",
                "defenses": [AM],
                "roles": {"misinformation": "x/1#misinformation"},
            },
            r"models\.m\.roles\.misinformation: there is no bundle 'x/1'",
        ),
    ],
)
def test_mistakes_are_named(settings: Build, model: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message) as refused:
        load_models(settings(models={"m": model}), CPU)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"size": 16}, "is shown 1x16x16 images and digits/1 1x12x12 images"),
        ({"labels": tuple("abcdefghij")}, "different labels"),
    ],
)
def test_a_role_that_does_not_fit_is_refused(
    settings: Build, tmp_path: Path, other: dict[str, Any], message: str
) -> None:
    write(tmp_path, "digits", "1", "victim")
    write(tmp_path, "other", "1", "victim", "misinformation", **other)
    models = {"digits": {"defenses": [AM], "roles": {"misinformation": "other/1#misinformation"}}}
    with pytest.raises(ConfigurationError, match=rf"roles\.misinformation: .*{message}"):
        load_models(settings(model_dir=tmp_path, models=models), CPU)


def test_a_bundle_without_a_victim_cannot_be_served(settings: Build, tmp_path: Path) -> None:
    write(tmp_path, "odd", "1", "misinformation")
    with pytest.raises(ConfigurationError, match=r"model_dir: .*odd/1 has no network 'victim'"):
        load_models(settings(model_dir=tmp_path), CPU)


def test_a_flipped_byte_is_refused(settings: Build, tmp_path: Path) -> None:
    path = write(tmp_path, "digits", "1", "victim") / "victim.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"model_dir: .*sha256"):
        load_models(settings(model_dir=tmp_path), CPU)


def test_a_directory_without_bundles_is_refused(settings: Build, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="model_dir: there is no bundle NAME/VERSION"):
        load_models(settings(model_dir=tmp_path), CPU)
    with pytest.raises(ConfigurationError, match="model_dir: there is no directory"):
        load_models(settings(model_dir=tmp_path / "nowhere"), CPU)


def test_the_log_says_whose_weights_answer_behind_what(
    settings: Build, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    models = {"m": {"victim": "defended", "defenses": [AM]}, "digits": {}}
    load_models(settings(models=models), CPU)
    assert "m version 1: weights defended/1 (objective: am)" in caplog.text
    assert "threshold=0.5" in caplog.text
    assert "digits version 10: weights digits/10 (objective: plain)" in caplog.text
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_defended_weights_behind_no_defense_are_warned_about(
    settings: Build, caplog: pytest.LogCaptureFixture
) -> None:
    load_models(settings(models={"m": {"victim": "defended"}}), CPU)
    assert "network 'misinformation' that no defense uses" in caplog.text
