"""Add-ons on training, on losses worked out by hand and on clones of a toy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from attack_client.adaptive.contract import PLAIN, Knowledge
from attack_client.adaptive.semi_supervised import Method, SemiSupervised
from attack_client.adaptive.semi_supervised_objective import PseudoLabels, Rotations
from attack_client.adaptive.sparse_repair import RevealedOnly, SparseRepair
from attack_client.clone import CloneRecipe, train_clone
from attack_client.errors import AdaptationError
from attack_client.objectives import Imitation
from models.training.objective import Batch
from tests.attack_client.stub import CLASSES, LinearModel


class Said(nn.Module):
    """Answers with its own weights, whatever is asked."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = nn.Parameter(logits)

    def forward(self, images: Tensor) -> Tensor:
        return self.logits[: len(images)]


def batch(targets: Tensor) -> Batch:
    return Batch(images=torch.zeros(len(targets), 1, 8, 8), targets=targets)


def test_with_all_its_mass_sparse_repair_is_cross_entropy() -> None:
    logits = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    targets = torch.tensor([[0.7, 0.3, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0], [0.2, 0.2, 0.5, 0.1]])
    losses = RevealedOnly(Said(logits), mass=1.0).losses(batch(targets))
    expected = functional.cross_entropy(logits, targets)
    torch.testing.assert_close(losses["within"] + losses["outside"], expected)


def test_without_mass_only_revealed_classes_are_compared() -> None:
    logits = torch.tensor([[2.0, 1.0, 9.0], [0.0, 3.0, 1.0]])
    targets = torch.tensor([[0.6, 0.4, 0.0], [0.0, 1.0, 0.0]])
    said = Said(logits)
    losses = RevealedOnly(said, mass=0.0).losses(batch(targets))
    pair = logits[0, :2].log_softmax(dim=0)
    torch.testing.assert_close(losses["within"], -(0.6 * pair[0] + 0.4 * pair[1]) / 2)
    label = functional.cross_entropy(logits[1:], torch.tensor([1])) / 2
    torch.testing.assert_close(losses["outside"], label)
    [slope] = torch.autograd.grad(sum(losses.values(), torch.zeros(())), said.logits)
    assert slope[0, 2] == 0.0, "what was not revealed is not held against a class"
    labels = RevealedOnly(said, mass=0.0).losses(batch(torch.tensor([0, 1])))
    torch.testing.assert_close(
        labels["outside"], functional.cross_entropy(logits, torch.tensor([0, 1]))
    )


def test_rows_count_by_their_sum() -> None:
    logits = torch.randn(1, 3, generator=torch.Generator().manual_seed(0))
    targets = torch.tensor([[0.6, 0.4, 0.0]])
    one, half = (
        RevealedOnly(Said(logits), mass=0.3).losses(batch(share * targets)) for share in (1.0, 0.5)
    )
    for name in one:
        torch.testing.assert_close(half[name], 0.5 * one[name])


class Counting(nn.Module):
    """A clone that keeps what it was shown."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(64, 6), nn.ReLU(), nn.Linear(6, CLASSES))
        self.shown: list[Tensor] = []

    def forward(self, images: Tensor) -> Tensor:
        self.shown.append(images)
        logits: Tensor = self.body(images)
        return logits


def unlabelled_batch(count: int = 8) -> Batch:
    draws = torch.Generator().manual_seed(1)
    images = torch.rand(count, 1, 8, 8, generator=draws)
    return Batch(images[:2], torch.tensor([0, 1]), ood=images)


def test_rotations_are_quarter_turns_and_read_off_the_features() -> None:
    clone, given = Counting(), unlabelled_batch()
    objective = Rotations(Imitation(clone), clone, weight=0.5, seed=0)
    losses = objective.losses(given)
    assert set(objective.networks) == {"clone", "rotation"}
    assert given.ood is not None
    turned = clone.shown[0]
    for row in range(8):
        torch.testing.assert_close(turned[row], torch.rot90(given.ood[row], row % 4, dims=(1, 2)))
    head = objective.networks["rotation"]
    features = clone.body[:3](turned)
    expected = functional.cross_entropy(head(features), torch.arange(8) % 4)
    torch.testing.assert_close(losses["unlabelled"], 0.5 * expected)
    assert not clone.body[3]._forward_pre_hooks, "nothing is left on the clone"


def test_a_clone_without_a_linear_layer_cannot_tell_turns() -> None:
    clone = nn.Conv2d(1, 2, 8)
    with pytest.raises(AdaptationError, match="last layer is linear"):
        Rotations(Imitation(clone), clone, weight=1.0, seed=0)


def test_pseudo_labels_are_believed_from_the_threshold_on() -> None:
    given = unlabelled_batch(4)
    sure = torch.tensor([[9.0, 0, 0, 0, 0]] * 2 + [[0.1, 0, 0, 0, 0]] * 2)
    clone = Said(sure)
    objective = PseudoLabels(Imitation(clone), clone, weight=1.0, threshold=0.9, seed=0)
    label = functional.cross_entropy(sure[:1], torch.tensor([0]))
    torch.testing.assert_close(objective.losses(given)["unlabelled"], label / 2)


def test_they_stand_around_whatever_else_is_learnt(model: LinearModel) -> None:
    images = model.images(300)
    knowledge = Knowledge(classes=CLASSES, seed=1, unasked=images[60:])
    answers = model(images[:60])
    answers[answers < 0.1] = 0.0
    recipe = CloneRecipe(architecture="cnn-small", epochs=2)
    methods: tuple[Method, ...] = ("rotation", "pseudo-labels")
    for method in methods:
        tuition = SparseRepair(mass=0.2).teach(PLAIN, knowledge)
        tuition = SemiSupervised(method=method).teach(tuition, knowledge)
        assert tuition.name.startswith("imitation as sparse-repair(mass=0.2) with semi-supervised")
        clone = train_clone(
            images[:60],
            answers,
            classes=CLASSES,
            recipe=recipe,
            seed=0,
            objective=tuition.objective,
            unlabelled=tuition.unlabelled,
        )
        assert clone(torch.zeros(2, 1, 8, 8)).shape == (2, CLASSES)


def test_what_it_learns_from_must_be_there() -> None:
    with pytest.raises(AdaptationError, match="not asked about"):
        SemiSupervised().teach(PLAIN, Knowledge(classes=2))
    oblong = np.zeros((4, 1, 8, 6), dtype=np.uint8)
    with pytest.raises(AdaptationError, match="square"):
        SemiSupervised().teach(PLAIN, Knowledge(classes=2, unasked=oblong))
    for options in ({"method": "jigsaw"}, {"weight": 0.0}, {"threshold": 1.0}):
        with pytest.raises(ValueError, match="must be"):
            SemiSupervised(**options)
    with pytest.raises(ValueError, match="mass"):
        SparseRepair(mass=1.5)
