"""Adversarial images: what PGD promises, and sets that survive a kill."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from models.adversarial.card import AdversarialCard, AdversarialSource, Attack
from models.adversarial.pgd import pgd
from models.adversarial.stored import CHUNK, adversarial_set, images_digest
from models.errors import TrainingError
from models.training.cross_entropy import CrossEntropy
from models.training.lock import locked
from models.training.loop import fit
from tests.training.toys import (
    assert_same_bits,
    network,
    plan,
    problem,
    quadrants,
    weights,
)

EPSILON, STEP, ITERATIONS = 0.1, 0.02, 12


@pytest.fixture(scope="module")
def trained() -> nn.Module:
    module = network()
    fit(CrossEntropy(module), problem(count=400), plan(epochs=6))
    return module


def starts(images: Tensor) -> Tensor:
    draws = torch.Generator().manual_seed(5)
    return EPSILON * (2 * torch.rand(images.shape, generator=draws) - 1)


def attacked(module: nn.Module, images: Tensor, labels: Tensor, start: Tensor) -> Tensor:
    return pgd(
        module, images, labels, start=start, epsilon=EPSILON, step=STEP, iterations=ITERATIONS
    )


def test_images_stay_within_epsilon_and_the_unit_interval_and_fool(trained: nn.Module) -> None:
    images, labels = quadrants(64, 8)
    unit = images.float() / 255
    found = attacked(trained, unit, labels, starts(unit))
    assert (found - unit).abs().max() <= EPSILON + 1e-6
    assert found.min() >= 0.0
    assert found.max() <= 1.0
    assert not found.requires_grad
    with torch.no_grad():
        before = functional.cross_entropy(trained(unit), labels)
        after = functional.cross_entropy(trained(found), labels)
    assert after > 3 * before


def test_what_becomes_of_an_image_does_not_depend_on_its_neighbours(trained: nn.Module) -> None:
    images, labels = quadrants(24, 8)
    unit = images.double() / 255
    module = network().double()
    module.load_state_dict(trained.state_dict())
    start = starts(unit).double()
    together = attacked(module, unit, labels, start)
    order = torch.randperm(24, generator=torch.Generator().manual_seed(6))
    assert torch.allclose(
        attacked(module, unit[order], labels[order], start[order]), together[order]
    )
    alone = attacked(module, unit[3:4], labels[3:4], start[3:4])
    assert torch.allclose(alone, together[3:4])


def test_the_network_is_attacked_in_evaluation_mode_and_left_as_it_was() -> None:
    module = network(dropout=0.9).train()
    before = weights({"": module})
    images, labels = quadrants(16, 8)
    unit = images.float() / 255
    first = attacked(module, unit, labels, starts(unit))
    assert torch.equal(attacked(module, unit, labels, starts(unit)), first)
    assert_same_bits(weights({"": module}), before)
    assert module.training
    assert all(parameter.grad is None for parameter in module.parameters())


def test_steps_are_in_pixels_and_stop_at_the_bound() -> None:
    dense = nn.Linear(4, 2, bias=False)
    linear = nn.Sequential(nn.Flatten(), dense)
    with torch.no_grad():
        dense.weight.copy_(torch.tensor([[1.0, -1.0, 2.0, 0.0], [0.0, 0.0, 0.0, 0.0]]))
    image = torch.tensor([0.5, 0.5, 0.02, 0.5]).view(1, 1, 2, 2)
    label, start = torch.tensor([0]), torch.zeros(1, 1, 2, 2)

    def after(iterations: int) -> list[float]:
        found = pgd(
            linear, image, label, start=start, epsilon=0.1, step=0.03, iterations=iterations
        )
        return found.flatten().tolist()

    assert after(0) == pytest.approx([0.5, 0.5, 0.02, 0.5])
    assert after(1) == pytest.approx([0.47, 0.53, 0.0, 0.5])
    assert after(9) == pytest.approx([0.4, 0.6, 0.0, 0.5])


COUNT = 2 * CHUNK + 10


def material() -> tuple[nn.Module, Tensor, Tensor]:
    images, labels = quadrants(COUNT, 9)
    return network(), images, labels


def source(**changes: object) -> AdversarialSource:
    _, images, labels = material()
    settled: dict[str, object] = {
        "base": "toy/1",
        "base_sha256": "0" * 64,
        "dataset": "quadrants",
        "images_sha256": images_digest(images, labels),
        "attack": Attack(epsilon=0.1, step=0.05, iterations=2),
        "seed": 3,
    }
    return AdversarialSource.model_validate(settled | changes)


class Killed(Exception):
    pass


def kill_after(chunks: int) -> Callable[[int, int], None]:
    calls: list[int] = []

    def progress(done: int, total: int) -> None:
        assert total == COUNT
        calls.append(done)
        if len(calls) == chunks:
            raise Killed

    return progress


def make(root: Path, made: list[int] | None = None, **changes: object) -> Tensor:
    def progress(done: int, total: int) -> None:
        if made is not None:
            made.append(done)

    return adversarial_set(root, source(**changes), *material(), progress=progress)


def test_a_set_is_made_once_and_described_by_its_card(tmp_path: Path) -> None:
    made: list[int] = []
    first = make(tmp_path, made)
    assert made == [CHUNK, 2 * CHUNK, COUNT]
    module, images, labels = material()
    assert first.dtype == torch.uint8
    assert first.shape == images.shape
    assert (first.int() - images.int()).abs().max() <= round(0.1 * 255)
    (directory,) = tmp_path.iterdir()
    assert directory.name.startswith("toy-1-")
    assert sorted(path.name for path in directory.iterdir()) == ["card.json", "images.npy"]
    card = AdversarialCard.model_validate_json((directory / "card.json").read_text())
    assert card.attack.iterations == 2
    with torch.no_grad():
        said = module.eval()(first.float() / 255).argmax(dim=1)
    assert card.fooled == pytest.approx((said != labels).float().mean().item())
    made.clear()
    assert torch.equal(make(tmp_path, made), first)
    assert made == []


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 4},
        {"base_sha256": "1" * 64},
        {"attack": Attack(epsilon=0.1, step=0.05, iterations=3)},
        {"images_sha256": "2" * 64},
    ],
)
def test_another_source_is_another_set(change: dict[str, object], tmp_path: Path) -> None:
    make(tmp_path)
    made: list[int] = []
    make(tmp_path, made, **change)
    assert len(made) == 3
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("chunks", [1, 2, 3])
def test_a_kill_costs_a_chunk_and_changes_nothing(chunks: int, tmp_path: Path) -> None:
    whole = make(tmp_path / "whole")
    with pytest.raises(Killed):
        adversarial_set(tmp_path / "cut", source(), *material(), progress=kill_after(chunks))
    made: list[int] = []
    assert torch.equal(make(tmp_path / "cut", made), whole)
    assert made == [CHUNK, 2 * CHUNK, COUNT][chunks:]
    (one,), (other,) = (list((tmp_path / name).iterdir()) for name in ("whole", "cut"))
    for name in ("card.json", "images.npy"):
        assert (one / name).read_bytes() == (other / name).read_bytes()


def test_a_kill_between_the_last_image_and_the_card_is_survived(tmp_path: Path) -> None:
    whole = make(tmp_path)
    (directory,) = tmp_path.iterdir()
    card = json.loads((directory / "card.json").read_text())
    (directory / "card.json").unlink()
    fooled = round(card["fooled"] * COUNT)
    (directory / "progress.json").write_text(json.dumps({"done": COUNT, "fooled": fooled}))
    made: list[int] = []
    assert torch.equal(make(tmp_path, made), whole)
    assert made == []
    assert json.loads((directory / "card.json").read_text()) == card


def test_images_that_somebody_deleted_half_way_are_made_again(tmp_path: Path) -> None:
    whole = make(tmp_path / "whole")
    with pytest.raises(Killed):
        adversarial_set(tmp_path / "cut", source(), *material(), progress=kill_after(1))
    (directory,) = (tmp_path / "cut").iterdir()
    (directory / "images.npy.partial").unlink()
    made: list[int] = []
    assert torch.equal(make(tmp_path / "cut", made), whole)
    assert made == [CHUNK, 2 * CHUNK, COUNT]


def test_a_damaged_set_gives_a_sentence(tmp_path: Path) -> None:
    make(tmp_path)
    (directory,) = tmp_path.iterdir()
    content = (directory / "images.npy").read_bytes()
    (directory / "images.npy").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(TrainingError, match=r"not what its card describes: delete it"):
        make(tmp_path)
    (directory / "images.npy").unlink()
    with pytest.raises(TrainingError, match="cannot be read") as caught:
        make(tmp_path)
    assert "\n" not in str(caught.value)
    (directory / "card.json").write_text("{}")
    with pytest.raises(TrainingError, match="cannot be read") as caught:
        make(tmp_path)
    assert "\n" not in str(caught.value)


def test_only_one_process_makes_a_set(tmp_path: Path) -> None:
    make(tmp_path)
    (directory,) = tmp_path.iterdir()
    with (
        locked(directory, "unused"),
        pytest.raises(TrainingError, match="another process is making"),
    ):
        make(tmp_path)
    make(tmp_path)
