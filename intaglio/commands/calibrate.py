"""``intaglio calibrate``: what a defense needs to know of a victim, kept in a bundle."""

from __future__ import annotations

from pathlib import Path

import click

from intaglio.commands import shared_options

__all__ = ["calibrate"]


@click.group()
def calibrate() -> None:
    """Measure what a defense needs, and keep it in a new version of a bundle."""


@calibrate.command("modelguard-s")
@click.argument("name")
@shared_options.models
@click.option(
    "--data",
    multiple=True,
    help="Dataset to query with. Repeatable, in order.  [default: what training held out]",
)
@click.option(
    "--epsilon",
    type=float,
    default=1.0,
    show_default=True,
    help="Budget, an L1 distance in [0, 2].",
)
@click.option("--capacity", type=int, default=4096, show_default=True, help="Most words to keep.")
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=10_000,
    show_default=True,
    help="Most images of each dataset to use.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Seed that draws images and their order.",
)
@shared_options.data_root
@shared_options.device
@shared_options.allow_factory("the card")
def modelguard_s(
    *,
    name: str,
    root: Path,
    data: tuple[str, ...],
    epsilon: float,
    capacity: int,
    limit: int,
    seed: int,
    data_root: Path | None,
    device: str,
    allow_factories: tuple[str, ...],
) -> None:
    """Build the words that modelguard-s answers with, for the bundle NAME or NAME/VERSION.

    They go into a new version of the bundle, in the same directory.
    """
    from defenses.errors import DefenseError
    from intaglio.modelguard_codebook import calibrate_modelguard_s
    from models.bundle import resolve_bundle
    from models.errors import ModelsError
    from models.sentence import Sentence
    from models.training.device import choose_device

    try:
        made = calibrate_modelguard_s(
            resolve_bundle(root, name),
            data=data,
            epsilon=epsilon,
            capacity=capacity,
            limit=limit,
            seed=seed,
            data_root=data_root,
            device=choose_device(device),
            allow_factories=allow_factories,
        )
    except (ModelsError, DefenseError) as error:
        raise Sentence(str(error)) from error
    click.echo(
        f"{made.words} words answer {made.answered:.2%} of {made.samples} images, "
        f"at a mean L1 distance of {made.distortion:.4f} (budget {epsilon:g})"
    )
    click.echo(f"bundle {made.bundle.path}")
