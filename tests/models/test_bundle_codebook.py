"""Codebooks of bundles: written beside the networks, trusted only as far as they are checked."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save
from torch import Tensor

from models.bundle import Bundle, add_codebook, open_bundle, resolve_bundle
from models.card import LARGEST_CODEBOOK
from models.errors import BundleError
from tests.server.core.conftest import write

FILE = "codebook.modelguard-s.safetensors"
WORDS = torch.eye(10)[:4] * 0.5 + 0.05


def extend(bundle: Bundle, words: Tensor = WORDS) -> Bundle:
    return add_codebook(bundle, "modelguard-s", words, epsilon=0.5, datasets=("noise",), samples=9)


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return open_bundle(write(tmp_path, "digits", "1", "victim", "misinformation"))


def test_the_next_version_has_the_same_networks_and_the_words(bundle: Bundle) -> None:
    made = extend(bundle)
    again = open_bundle(resolve_bundle(bundle.path.parents[1], "digits"))
    assert again.path == made.path
    assert (again.card.name, again.card.version) == ("digits", "2")
    assert torch.equal(again.codebook("modelguard-s"), WORDS)
    for role in ("victim", "misinformation"):
        old, new = bundle.load(role).state_dict(), again.load(role).state_dict()
        assert all(torch.equal(old[name], new[name]) for name in old)
    assert {path.name for path in again.path.iterdir()} == {
        *(path.name for path in bundle.path.iterdir()),
        FILE,
    }
    replaced = extend(again, WORDS[:2])
    assert len(open_bundle(replaced.path).codebook("modelguard-s")) == 2


@pytest.mark.parametrize("words", [WORDS * 2, WORDS[:, :5], WORDS[0], WORDS * torch.nan])
def test_what_is_no_word_is_not_written(bundle: Bundle, words: Tensor) -> None:
    with pytest.raises(BundleError, match="words must be probabilities of 10 classes"):
        extend(bundle, words)


def test_a_bundle_without_one_says_so(bundle: Bundle) -> None:
    with pytest.raises(BundleError, match="digits/1 has no codebook for modelguard-s"):
        bundle.codebook("modelguard-s")


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"words": WORDS[:3].contiguous()}, "must hold one tensor, words 4x10"),
        ({"words": WORDS, "more": WORDS.clone()}, "must hold one tensor, words 4x10"),
        ({"weights": WORDS}, "must hold one tensor, words 4x10"),
        ({"words": WORDS.double()}, "must be a float32 probability vector"),
        ({"words": WORDS - 0.1}, "must be a float32 probability vector"),
        ({"words": WORDS * torch.inf}, "must be a float32 probability vector"),
    ],
)
def test_what_the_hash_vouches_for_is_checked_all_the_same(
    bundle: Bundle, tensors: dict[str, Tensor], message: str
) -> None:
    path = extend(bundle).path
    data = save(tensors)
    (path / FILE).write_bytes(data)
    edit(path, sha256=hashlib.sha256(data).hexdigest())
    with pytest.raises(BundleError, match=message):
        open_bundle(path).codebook("modelguard-s")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"file": "victim.safetensors"}, r"codebooks\.modelguard-s\.file"),
        ({"file": "codebook.other.safetensors"}, r"codebooks\.modelguard-s\.file must be"),
        ({"words": 10**6}, r"codebooks\.modelguard-s\.words"),
        ({"sha256": "0" * 64}, "is not the file its card describes"),
    ],
)
def test_a_card_that_does_not_hold_is_refused(
    bundle: Bundle, changes: dict[str, Any], message: str
) -> None:
    path = extend(bundle).path
    edit(path, **changes)
    with pytest.raises(BundleError, match=message):
        open_bundle(path)


def test_one_class_has_no_more_than_its_share(bundle: Bundle) -> None:
    most = LARGEST_CODEBOOK // 10
    assert len(extend(bundle, WORDS[:1].repeat(most, 1)).codebook("modelguard-s")) == most
    skewed = extend(bundle, WORDS[:1].repeat(most + 1, 1))
    with pytest.raises(
        BundleError, match=r"a class has 6554 words, .* 10 classes each may have 6553"
    ):
        skewed.codebook("modelguard-s")


def test_a_missing_file_is_refused(bundle: Bundle) -> None:
    path = extend(bundle).path
    (path / FILE).unlink()
    with pytest.raises(BundleError, match="is missing"):
        open_bundle(path)


def edit(path: Path, **changes: Any) -> None:
    card = json.loads((path / "card.json").read_text())
    card["codebooks"]["modelguard-s"].update(changes)
    (path / "card.json").write_text(json.dumps(card))
