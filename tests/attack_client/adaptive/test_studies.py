"""Add-ons to attacks whose clones learn in a way of their own: distillation, theft with maps."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from attack_client.adaptive.image_places import places
from attack_client.adaptive.shared_victim import SharedVictim
from attack_client.attacks import attribution_clone
from attack_client.attacks.attribution_objective import as_pictures
from attack_client.attacks.distil_objective import Distillation, Lesson
from attack_client.clone import train_clone
from attack_client.contract import ExplainedReply, Reply, VictimFacts
from attack_client.errors import ProtocolError, Refused
from attack_client.report import Row, read_json
from models.training.objective import Batch
from tests.attack_client.conftest import Serve
from tests.attack_client.stub import CLASSES, MAPS, SHAPE, LinearModel, Stub, quarters
from tests.attack_client.test_attack_commands import run


def loss(student: nn.Module, lesson: Lesson, mass: float | None, taught: Tensor) -> Tensor:
    """The teacher's part, of logits that are the images."""
    logits = torch.tensor([[1.0, 0.5, -0.5, 0.2]]).expand(len(taught), 4).clone().requires_grad_()
    targets = torch.cat([taught, torch.eye(4)[: len(taught)]], dim=1)
    objective = Distillation(student, lesson, mass=mass)
    return objective.losses(Batch(images=logits, targets=targets))["teacher"]


def test_a_repaired_lesson_compares_revealed_classes_only() -> None:
    lesson = Lesson(alpha=1.0, temperature=2.0)
    taught = torch.tensor([[0.6, 0.4, 0.0, 0.0]])
    whole, none = (loss(nn.Identity(), lesson, mass, taught) for mass in (1.0, 0.0))
    torch.testing.assert_close(whole, loss(nn.Identity(), lesson, None, taught))
    student = (torch.tensor([1.0, 0.5]) / 2.0).softmax(dim=0)
    wanted = 4.0 * (taught[0, :2] * (taught[0, :2] / student).log()).sum()
    torch.testing.assert_close(none, wanted)


@pytest.mark.parametrize("mass", [None, 0.3])
def test_an_answer_that_was_dropped_teaches_nothing(mass: float | None) -> None:
    lesson = Lesson(alpha=1.0)
    heard = torch.tensor([[0.7, 0.3, 0.0, 0.0]])
    both = torch.cat([heard, torch.zeros(1, 4)])
    alone = loss(nn.Identity(), lesson, mass, heard)
    torch.testing.assert_close(loss(nn.Identity(), lesson, mass, both), alone / 2)
    loss(nn.Identity(), lesson, mass, both).backward()  # type: ignore[no-untyped-call]


def students(root: Path, url: str, out: Path, *more: str) -> dict[str, Row]:
    result = run("distil", url, root, out, *more)
    assert result.exit_code == 0, result.output
    return {row.attack: row for row in read_json(out / "report.json").rows}


@pytest.mark.parametrize(
    ("adapt", "name"),
    [
        ("augmentation-averaging:n=2", "augmentation-averaging(n=2)"),
        ("near-distribution:scouts=20,keep=0.9", "near-distribution(keep=0.9, scouts=20)"),
        ("filter-confidence", "filter-confidence"),
        ("sparse-repair", "sparse-repair"),
        ("semi-supervised", "semi-supervised"),
    ],
)
def test_what_is_heard_of_a_teacher_can_be_adapted(
    model: LinearModel, serve: Serve, npz_root: Path, tmp_path: Path, adapt: str, name: str
) -> None:
    stub = Stub(model)
    with serve(stub) as url:
        plain = students(npz_root, url, tmp_path / "plain")
        adapted = students(npz_root, url, tmp_path / "adapted", "--adapt", adapt)
    assert set(plain) == {"scratch", "distil(alpha=0.9, T=4)"}
    assert set(adapted) == {"scratch", f"distil(alpha=0.9, T=4)+{name}"}
    assert adapted["scratch"].queries == 0
    if name in {"filter-confidence", "sparse-repair", "semi-supervised"}:
        # Whoever never heard the teacher is the same student, whatever is made of the answers.
        assert adapted["scratch"].class_accuracy == plain["scratch"].class_accuracy


def test_a_map_goes_with_its_image_whatever_add_ons_leave(
    model: LinearModel,
    serve: Serve,
    npz_root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[tuple[NDArray[np.uint8], NDArray[np.uint8]]] = []

    def train(images: NDArray[np.uint8], targets: Any, **given: Any) -> nn.Module:
        if given["paired"] is not None:
            seen.append((images, given["paired"]))
        return train_clone(images, targets, **given)

    monkeypatch.setattr(attribution_clone, "train_clone", train)
    adapt = ("--adapt", "augmentation-averaging:n=2", "--adapt", "filter-confidence:keep=0.5")
    how = ("--lambda", "1", "--interpreter", "gradient-x-input", *adapt)
    with serve(Stub(model, maps=True)) as url:
        result = run("attribution", url, npz_root, tmp_path, *how)
    assert result.exit_code == 0, result.output
    added = "+augmentation-averaging(n=2)+filter-confidence(keep=0.5)"
    names = [row.attack for row in read_json(tmp_path / "report.json").rows]
    assert names == [
        f"attribution(lambda=0){added}", f"attribution(lambda=1, gradient-x-input){added}"
    ]  # fmt: skip
    ((images, pictures),) = seen
    assert len(images) == 15, "half of 30 images at two queries each"
    np.testing.assert_array_equal(pictures, as_pictures(quarters(images), SHAPE))


def test_how_clones_learn_from_maps_is_the_attack_itself(
    model: LinearModel, serve: Serve, npz_root: Path, tmp_path: Path
) -> None:
    stub = Stub(model, maps=True)
    with serve(stub) as url:
        result = run("attribution", url, npz_root, tmp_path, "--adapt", "semi-supervised")
    assert result.exit_code == 2
    said = " ".join(result.output.replace("│", " ").split())
    assert "attribution learns in a way of its own, to which semi-supervised cannot be" in said
    assert not stub.requests


class Account:
    """A victim with maps, whose account may be closed."""

    def __init__(self, model: LinearModel, *, closed: bool = False) -> None:
        self.facts = VictimFacts("http://victim", "toy", SHAPE, CLASSES, MAPS)
        self._model, self._closed = model, closed

    async def query(
        self,
        images: NDArray[np.uint8],
        *,
        key: str | None = None,
        sending: Callable[[], None] | None = None,
    ) -> Reply:
        raise AssertionError("asked without maps")

    async def explain(
        self,
        images: NDArray[np.uint8],
        *,
        key: str | None = None,
        sending: Callable[[], None] | None = None,
    ) -> ExplainedReply:
        del key, sending
        if self._closed:
            raise Refused("go away", status=401)
        return ExplainedReply(self._model(images), quarters(images))


def test_several_accounts_are_asked_for_maps(model: LinearModel) -> None:
    images = model.images(4)
    shared = SharedVictim([Account(model, closed=True), Account(model)], split="blocks")
    reply = asyncio.run(shared.explain(images))
    np.testing.assert_array_equal(reply.attributions, quarters(images))
    assert reply.sends == 2


def test_accounts_without_maps_say_so(model: LinearModel) -> None:
    class Silent:
        facts = VictimFacts("http://victim", "toy", SHAPE, CLASSES)
        query = Account.query

        def __repr__(self) -> str:
            return "Silent()"

    shared = SharedVictim([Silent()])
    with pytest.raises(ProtocolError, match=r"Silent\(\) cannot be asked for attribution maps"):
        asyncio.run(shared.explain(model.images(1)))


def test_places_are_the_first_of_equal_images(model: LinearModel) -> None:
    images = model.images(3)
    among = np.concatenate([images[1:], images[1:]])
    assert places(images, among).tolist() == [-1, 0, 1]
