"""ModelGuard-S: ordered quantisation within a budget, and what covers the rest of the simplex."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from defenses.codebook_frozen import FrozenCodebook
from defenses.codebook_memory import MemoryCodebook
from defenses.codebook_redis import RedisCodebook
from defenses.codebook_words import WordTable
from defenses.contract import Material
from defenses.errors import OptionError
from defenses.lattice import coarsest_within
from defenses.modelguard_s import ModelGuardS
from defenses.registry import build_chain
from models.simplex import GRID, round_to_grid, top1
from tests.defenses.toys import answers, apply, card, images, material

WORDS = torch.tensor([[0.8, 0.1, 0.1], [0.6, 0.4, 0.0], [0.2, 0.7, 0.1]])


def rows(count: int, classes: int, *, sharpness: float = 2.0, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(count, classes, generator=generator) * sharpness
    return round_to_grid(logits.softmax(dim=1), GRID)


def apart(one: Tensor, other: Tensor) -> Tensor:
    return (one.double() - other.double()).abs().sum(dim=1)


@pytest.mark.parametrize(
    ("said", "epsilon", "word"),
    [
        ([0.7, 0.2, 0.1], 0.4, [0.8, 0.1, 0.1]),  # both of its class in reach: the first
        ([0.5, 0.45, 0.05], 0.4, [0.6, 0.4, 0.0]),  # the first is 0.7 away
        ([0.5, 0.45, 0.05], 0.8, [0.8, 0.1, 0.1]),
        ([0.3, 0.6, 0.1], 0.2, [0.2, 0.7, 0.1]),  # words of another class do not count
    ],
)
def test_the_first_word_within_the_budget(
    said: list[float], epsilon: float, word: list[float]
) -> None:
    defense = ModelGuardS(epsilon=epsilon, codebook=FrozenCodebook(WORDS))
    assert torch.equal(apply(defense, torch.tensor([said]))[0], torch.tensor(word))


def test_the_budget_itself_is_within_the_budget() -> None:
    said = torch.tensor([[0.65, 0.25, 0.1]])
    words = FrozenCodebook(WORDS).look_up_or_insert(said, top1(said), 0.3)
    assert words.found
    assert not FrozenCodebook(WORDS).look_up_or_insert(said, top1(said), 0.29).found


@pytest.mark.parametrize("classes", [2, 10, 200])
@pytest.mark.parametrize("epsilon", [0.0, 0.05, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("sharpness", [0.1, 1.0, 5.0])
def test_every_answer_keeps_the_budget_and_the_label(
    classes: int, epsilon: float, sharpness: float
) -> None:
    said = rows(300, classes, sharpness=sharpness)
    words = rows(20, classes, sharpness=sharpness, seed=1)
    served = apply(ModelGuardS(epsilon=epsilon, codebook=FrozenCodebook(words)), said)
    assert apart(served, said).max() <= epsilon + 1e-6
    assert torch.equal(top1(served), top1(said))


def test_the_grid_is_the_coarsest_and_a_sure_answer_becomes_its_label() -> None:
    said = torch.tensor([[0.8, 0.15, 0.05], [0.5, 0.4, 0.1], [0.45, 0.35, 0.2]])
    served = coarsest_within(said, 0.4)
    assert torch.equal(served[0], torch.tensor([1.0, 0.0, 0.0]))
    torch.testing.assert_close(served[1], torch.tensor([0.5, 0.5, 0.0]))
    torch.testing.assert_close(served[2], torch.tensor([0.5, 0.5, 0.0]))
    assert top1(served).tolist() == [0, 0, 0]
    assert torch.equal(coarsest_within(said, 0.0), round_to_grid(said, GRID))


def test_many_answers_share_few_words() -> None:
    said = rows(2000, 10, sharpness=3.0)
    served = apply(ModelGuardS(epsilon=1.0, codebook=MemoryCodebook()), said)
    assert len(torch.unique(said, dim=0)) > 1900
    assert len(torch.unique(served, dim=0)) < 120


def test_a_table_grows_and_finds_as_one_built_at_once() -> None:
    words, said = rows(60, 4), rows(200, 4, seed=1)
    grown, built = WordTable(4), WordTable(4, words)
    for label, word in zip(top1(words).tolist(), words, strict=True):
        grown.append(label, word)
    one, other = (table.search(said, top1(said), 0.3) for table in (grown, built))
    assert len(grown) == len(built) == 60
    assert torch.equal(one.found, other.found)
    assert torch.equal(one.probabilities[one.found], other.probabilities[other.found])
    assert 0 < int(one.found.sum()) < 200


def build(**options: Any) -> ModelGuardS:
    (link,) = build_chain([{"kind": "modelguard-s", **options}], material(10)).links
    assert isinstance(link, ModelGuardS)
    return link


def test_frozen_is_pure_and_what_grows_says_that_it_is_not() -> None:
    frozen, memory = build(), build(codebook="memory", epsilon=0.5)
    assert frozen.epsilon == 0.5, "that of the calibration"
    assert not frozen.stateful
    assert not frozen.timing_leak
    assert memory.stateful
    assert memory.timing_leak
    chain = build_chain(
        [{"kind": "modelguard-s", "codebook": "memory", "epsilon": 1}], material(10)
    )
    assert chain.stateful == ("modelguard-s",)
    assert not chain.run(answers(10, images(8))).failed.any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epsilon": 3}, r"defenses\[0\]\.epsilon: must be an L1 distance"),
        ({"codebook": "disk"}, r"defenses\[0\]\.codebook: must be frozen, memory or redis"),
        ({"codebook": ["memory"]}, r"defenses\[0\]\.codebook: must be frozen, memory or redis"),
        ({"codebook": "memory"}, r"defenses\[0\]\.epsilon: a codebook in memory needs"),
        ({"capacity": 10}, r"defenses\[0\]\.capacity: is not for a codebook that is frozen"),
        (
            {"codebook": "memory", "epsilon": 1, "url": "redis://h"},
            r"defenses\[0\]\.url: is not for a codebook that is memory",
        ),
        (
            {"codebook": "memory", "epsilon": 1, "capacity": 0},
            r"defenses\[0\]\.capacity: must be between 1 and 65536 words, not 0",
        ),
        ({"codebook": "redis", "epsilon": 1}, r"defenses\[0\]\.url: a codebook in redis needs"),
        (
            {"codebook": "redis", "epsilon": 1, "url": "http://:hush@h"},
            r"defenses\[0\]\.url: must begin with redis://[^@]* not with 'http'$",
        ),
        (
            {"codebook": "redis", "epsilon": 1, "url": "redis://:hush@[h"},
            r"defenses\[0\]\.url: this is not an address of Redis$",
        ),
        (
            {"codebook": "redis", "epsilon": 1, "url": "redis://:hush@h"},
            r"defenses\[0\]\.url: must not hold a password",
        ),
    ],
)
def test_mistakes_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message) as refused:
        build(**options)
    assert "hush" not in str(refused.value)


def test_a_file_that_is_not_text_holds_no_password(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_bytes(b"\xff\xfe")
    codebook = RedisCodebook("redis://h", name="toy/1:0.6", password_file=file)
    with pytest.raises(OptionError, match=r"password_file: is not text in UTF-8$"):
        codebook.check(10)


def test_a_bundle_without_a_codebook_says_how_to_build_one() -> None:
    without = Material(card(10).model_copy(update={"codebooks": {}}), {})
    with pytest.raises(OptionError, match=r"codebook: .*toy/1 holds none.*intaglio calibrate"):
        build_chain([{"kind": "modelguard-s"}], without)


def test_words_of_other_classes_are_refused() -> None:
    held = material(10)
    other = Material(held.card, {}, codebooks={"modelguard-s": WORDS})
    with pytest.raises(OptionError, match="its words have 3 classes, not 10"):
        build_chain([{"kind": "modelguard-s"}], other)


def test_options_tell_where_the_words_are() -> None:
    assert build(codebook="memory", epsilon=1.0, capacity=50).options() == {
        "epsilon": 1.0,
        "codebook": "memory",
        "capacity": 50,
    }
