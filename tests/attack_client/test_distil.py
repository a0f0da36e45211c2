"""Distillation: the loss, the order of the images, and the command against the stub."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from torch import nn
from torch.nn import functional

from attack_client.attacks.distil import Distil
from attack_client.attacks.distil_objective import Distillation, Lesson, soften
from attack_client.attacks.distil_verdict import Student, Verdict
from attack_client.cli import attack
from attack_client.report import read_json
from attack_client.transfer_set import TransferSet
from models.datasets import load as load_dataset
from models.training.objective import Batch
from tests.attack_client.conftest import FORMS, Serve
from tests.attack_client.stub import CLASSES, LinearModel, Stub


def distil(url: str, root: Path, out: Path, *more: str) -> Result:
    given = {
        "--url": url, "--model": "toy", "--pool": "task", "--test": "task", "--clone": "cnn-small",
        "--epochs": "1", "--latency-requests": "0", "--device": "cpu", "--data-root": str(root),
        "--out": str(out),
    }  # fmt: skip
    arguments = ["distil", *(part for pair in given.items() for part in pair), *more]
    clean = {"INTAGLIO_API_KEY": None, "INTAGLIO_OPERATOR_KEY": None}
    return CliRunner().invoke(attack, arguments, env=clean)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0, 20.0])
def test_softened_probabilities_are_the_softmax_of_divided_logits(temperature: float) -> None:
    logits = 4 * torch.randn(50, 7, generator=torch.Generator().manual_seed(0))
    wanted = (logits / temperature).softmax(dim=1)
    torch.testing.assert_close(
        soften(logits.double().softmax(dim=1), temperature), wanted, atol=1e-6, rtol=1e-4
    )


def test_a_truncated_class_stays_at_zero_unless_a_floor_raises_it() -> None:
    answers = torch.tensor([[0.9, 0.1, 0.0], [1.0, 0.0, 0.0], [0.45, 0.05, 0.0]])
    softened = soften(answers, 20.0)
    assert (softened[:, 2] == 0).all()
    assert softened[1].tolist() == [1.0, 0.0, 0.0]
    torch.testing.assert_close(softened.sum(dim=1), torch.ones(3))
    # A truncating service that does not renormalise says the same thing.
    torch.testing.assert_close(softened[2], softened[0])
    raised = soften(answers, 20.0, floor=1e-5)
    assert raised.min() > 0.2
    assert raised[1].argmax() == 0


@pytest.mark.parametrize("row", [[0.0, 0.0], [float("nan"), 1.0], [-0.1, 1.1]])
def test_an_answer_that_is_no_distribution_is_named(row: list[float]) -> None:
    with pytest.raises(ValueError, match="answer 1 is not a distribution"):
        soften(torch.tensor([[0.5, 0.5], row]), 2.0)


def test_the_loss_and_its_gradient_are_the_textbook_ones() -> None:
    draws = torch.Generator().manual_seed(1)
    teacher = 3 * torch.randn(9, 5, generator=draws)
    student = torch.randn(9, 5, generator=draws, requires_grad=True)
    labels = torch.randint(0, 5, (9,), generator=draws)
    lesson = Lesson(alpha=0.7, temperature=3.0)
    targets = Distillation.targets(teacher.softmax(dim=1), labels, lesson)
    losses = Distillation(nn.Identity(), lesson).losses(Batch(images=student, targets=targets))
    (gradient,) = torch.autograd.grad(sum(losses.values(), torch.zeros(())), student)

    taught, learnt = (teacher / 3).softmax(1), (student / 3).log_softmax(1)
    divergence = (taught * (taught.log() - learnt)).sum(1).mean()
    wanted = 0.7 * 9 * divergence + 0.3 * functional.cross_entropy(student, labels)
    torch.testing.assert_close(sum(losses.values(), torch.zeros(())), wanted)
    by_hand = 0.7 * 3 * ((student / 3).softmax(1) - taught) + 0.3 * (
        student.softmax(1) - functional.one_hot(labels, 5)
    )
    torch.testing.assert_close(gradient, by_hand.detach() / 9, atol=1e-6, rtol=1e-4)


def test_a_share_of_nothing_is_no_loss() -> None:
    targets = torch.eye(4).repeat(1, 2)
    batch = Batch(images=torch.randn(4, 4), targets=targets)
    assert Distillation(nn.Identity(), Lesson(alpha=0.0)).losses(batch).keys() == {"labels"}
    assert Distillation(nn.Identity(), Lesson(alpha=1.0)).losses(batch).keys() == {"teacher"}


@pytest.mark.parametrize(
    ("given", "said"),
    [({"alpha": 1.5}, "alpha must be in"), ({"temperature": 0.0}, "temperature must be"),
     ({"floor": -1.0}, "floor must be in")],
)  # fmt: skip
def test_a_lesson_out_of_range_is_refused(given: dict[str, float], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Lesson(**given)


def test_the_value_is_the_better_of_taught_and_scratch_and_held_out_images_choose() -> None:
    scratch = Student(0.0, 1.0, 0.0, "hard", 0.80, 0.81)
    lucky = Student(0.9, 4.0, 0.0, "soft", 0.70, 0.90)
    sound = Student(0.1, 4.0, 0.0, "soft", 0.75, 0.78)
    verdict = Verdict(images=100, held_out=10, students=(scratch, lucky, sound))
    assert verdict.taught == sound
    assert verdict.value == 0.81
    assert "chosen by held-out images): worth 81.00%" in verdict.sentence()
    alone = Verdict(images=100, held_out=10, students=(scratch,))
    assert (alone.taught, alone.value) == (None, 0.81)


@FORMS
def test_each_image_is_asked_about_once_and_goes_with_its_own_label(
    model: LinearModel, serve: Serve, npz_root: Path, tmp_path: Path, form: Mapping[str, Any]
) -> None:
    stub, out = Stub(model, **form), tmp_path / "run"
    with serve(stub) as url:
        result = distil(url, npz_root, out, "--defense", "none")
        assert result.exit_code == 0, result.output
        paid = stub.samples
        again = distil(url, npz_root, out, "--resume")
        assert again.exit_code == 0, again.output
    assert paid == 600 + 100
    assert stub.samples == paid  # honest answers are kept as well
    assert "600 answers were on disk already" in again.output
    report = read_json(out / "report.json")
    assert [row.attack for row in report.rows] == ["scratch", "distil(alpha=0.9, T=4)"]
    assert [row.queries for row in report.rows] == [0, 600]

    task = load_dataset("task", root=npz_root)
    order = Distil(seed=0).order(600)
    with TransferSet.read(out / "transfer") as stolen:
        asked, answers = stolen.prefix(600)
    np.testing.assert_array_equal(asked, task.train_images[order])
    # The stub labelled the task itself, so a label that stands at a wrong place would show.
    np.testing.assert_array_equal(answers.argmax(axis=1), task.train_labels[order])


def test_a_sweep_reports_every_student_and_what_they_are_worth(
    model: LinearModel, serve: Serve, npz_root: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    with serve(Stub(model)) as url:
        result = distil(
            url, npz_root, out, "--budget", "200", "--alpha", "0,0.5,0.9", "--temperature", "1,4",
            "--labels", "soft,hard", "--epochs", "6",
        )  # fmt: skip
    assert result.exit_code == 0, result.output
    rows = read_json(out / "report.json").rows
    assert len(rows) == 1 + 2 * 2 * 2
    assert len({(row.attack, row.labels) for row in rows}) == len(rows)
    (verdict,) = json.loads((out / "distillation.json").read_text())["verdicts"]
    assert (verdict["images"], verdict["held_out"]) == (200, 20)
    assert [student["accuracy"] for student in verdict["students"]] == [
        row.clone_accuracy for row in rows
    ]
    assert verdict["value"] == max(verdict["taught"]["accuracy"], rows[0].clone_accuracy)
    assert all(student["validation"] is not None for student in verdict["students"])
    assert rows[0].clone_accuracy > 1.5 / CLASSES, "a student of labels learns the task"
    markdown = (out / "report.md").read_text()
    assert "toy: distil(alpha=0.5, T=1)" in markdown
    assert "toy: scratch" in markdown


def test_what_cannot_be_distilled_is_refused_before_a_query(
    model: LinearModel, serve: Serve, npz_root: Path, tmp_path: Path
) -> None:
    noise = np.load(npz_root / "noise.npz")
    arrays = {name: noise[name] for name in noise}
    arrays["y_train"] = arrays["y_train"] % 2
    arrays["y_test"] = arrays["y_test"] % 2
    np.savez(npz_root / "coins.npz", **arrays)
    stub = Stub(model)
    with serve(stub) as url:
        for more, said in (
            (("--pool", "coins"), "--pool coins and --test task have different classes"),
            (("--alpha", "0"), "--alpha must have a value above 0"),
            (("--alpha", "2"), "--alpha must be in [0, 1], not 2"),
            (("--temperature", "0"), "--temperature must be a finite number > 0"),
            (("--alpha", "much"), "give a number, or several with commas"),
            (("--budget", "601"), "the budget is 601 queries but task has 600 training images"),
        ):
            result = distil(url, npz_root, tmp_path / "run", *more)
            assert result.exit_code == 2, result.output
            assert said in " ".join(result.output.split())
    assert stub.samples == 0
