"""``intaglio attack distil``: what it takes beyond the options that every attack has."""

from __future__ import annotations

from typing import Any

import click

from attack_client.attacks.number_list import numbers

__all__ = ["distil_command"]


def distil_command(command: click.Command) -> click.Command:
    """``command``, an attack's own, with the weights of distillation.

    The whole training set is asked about by default, and a tenth of its images is held out to
    choose by: a student's epoch is always the last.
    """
    for parameter in command.params:
        match parameter.name:
            case "budgets":
                parameter.required, parameter.default = False, "all"
                _show_default(parameter)
            case "pool":
                _help(parameter, "The victim's training data, labels and all.")
            case "holdout":
                parameter.default = 0.1
                _help(parameter, "Share of the images to choose alpha and T by.")
    command.params += [
        click.Option(
            ["--alpha", "alphas"],
            default="0.9",
            show_default=True,
            callback=numbers,
            metavar="A[,A...]",
            help="Weight of the victim's answers in a student's loss; the labels have the rest.",
        ),
        click.Option(
            ["--temperature", "temperatures"],
            default="4",
            show_default=True,
            callback=numbers,
            metavar="T[,T...]",
            help="Softmax temperature; every alpha is tried with every T.",
        ),
        click.Option(
            ["--floor"],
            default=0.0,
            show_default=True,
            type=click.FloatRange(0.0, 0.1),
            help="Raise smaller probabilities to this before they are softened.",
        ),
    ]
    run = command.callback
    assert run is not None

    def distil(
        *, alphas: tuple[float, ...], temperatures: tuple[float, ...], floor: float, **given: Any
    ) -> None:
        from attack_client.attacks.distil_objective import Lesson
        from attack_client.attacks.distil_study import DistilStudy

        try:
            lessons = [Lesson(alpha, t, floor) for alpha in alphas for t in temperatures]
        except ValueError as error:
            raise click.UsageError(f"--{error}") from error
        if not any(alphas):
            raise click.UsageError(
                "--alpha must have a value above 0: the student from scratch is trained anyway"
            )
        run(study=DistilStudy(lessons), **given)

    command.callback = distil
    return command


def _show_default(parameter: click.Parameter) -> None:
    if isinstance(parameter, click.Option):
        parameter.show_default = True


def _help(parameter: click.Parameter, text: str) -> None:
    if isinstance(parameter, click.Option):
        parameter.help = text
