"""``intaglio attack attribution``: what it takes beyond the options that every attack has."""

from __future__ import annotations

from typing import Any

import click

from attack_client.attacks.number_list import numbers

__all__ = ["INTERPRETERS", "attribution_command"]

INTERPRETERS = ("grad-cam", "gradient-x-input", "relevance-cam")
"""As ``models.explain`` knows them, which takes torch to import."""


def attribution_command(command: click.Command) -> click.Command:
    """``command``, an attack's own, with lambda and the interpreter of the clones."""
    command.params += [
        click.Option(
            ["--lambda", "weights"],
            default="0,0.1,1,10",
            show_default=True,
            callback=numbers,
            metavar="L[,L...]",
            help="Weight of the maps in a clone's loss; a clone for each, and one without maps.",
        ),
        click.Option(
            ["--interpreter"],
            default="grad-cam",
            show_default=True,
            type=click.Choice(INTERPRETERS),
            help="How clones are explained; best in the way that the victim is.",
        ),
        click.Option(
            ["--layer"],
            metavar="NAME",
            help="Layer of the clone whose activations are weighed.  [default: the one before its "
            "last pooling]",
        ),
    ]
    run = command.callback
    assert run is not None

    def attribution(
        *, weights: tuple[float, ...], interpreter: str, layer: str | None, **given: Any
    ) -> None:
        from attack_client.attacks.attribution_objective import MapMatching
        from attack_client.attacks.attribution_study import AttributionStudy

        try:
            matchings = [MapMatching(weight, interpreter, layer) for weight in weights]
        except ValueError as error:
            raise click.UsageError(f"--{error}") from error
        run(study=AttributionStudy(matchings), **given)

    command.callback = attribution
    return command
