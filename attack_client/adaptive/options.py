"""The flags of add-ons, which every ``intaglio attack`` command takes.

Importing this imports no torch, no httpx: ``--help`` answers at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from attack_client.adaptive.spec import Spec

__all__ = ["OPTIONS", "taken"]

Decorator = Callable[[Callable[..., None]], Callable[..., None]]


def _specs(
    ctx: click.Context, parameter: click.Parameter, value: tuple[str, ...]
) -> tuple[Spec, ...]:
    from attack_client.adaptive.spec import Spec
    from attack_client.errors import AdaptationError

    try:
        return tuple(Spec.parse(text) for text in value)
    except AdaptationError as error:
        raise click.BadParameter(str(error), ctx, parameter) from error


def _mapping(ctx: click.Context, parameter: click.Parameter, value: str | None) -> dict[str, Any]:
    import yaml

    if value is None:
        return {}
    try:
        options = yaml.safe_load(value)
    except (yaml.YAMLError, ValueError) as error:
        raise click.BadParameter("give a JSON or YAML mapping", ctx, parameter) from error
    if not isinstance(options, dict) or not all(isinstance(name, str) for name in options):
        raise click.BadParameter("give a mapping of names to values", ctx, parameter)
    return options


OPTIONS: tuple[Decorator, ...] = (
    click.option(
        "--adapt",
        multiple=True,
        callback=_specs,
        metavar="NAME[:key=value,...]",
        help="An add-on that undoes a defense; several are applied in the order given.",
    ),
    click.option(
        "--known-defense",
        metavar="package.module:factory",
        help="The victim's defense as a function, for add-ons that invert it. Runs that code.",
    ),
    click.option(
        "--known-options",
        callback=_mapping,
        metavar="JSON",
        help="Keyword arguments of --known-defense.",
    ),
    click.option("--shadow-url", help="The attacker's own copy of the service."),
    click.option("--shadow-defended", metavar="NAME", help="Its model behind the defense."),
    click.option("--shadow-plain", metavar="NAME", help="Its model behind no defense."),
    click.option(
        "--shadow-key",
        envvar="INTAGLIO_SHADOW_KEY",
        show_envvar=True,
        help="Key of the shadow service.",
    ),
    click.option(
        "--shadow-softmax",
        is_flag=True,
        help="The shadow's models answer with logits: make probabilities of them.",
    ),
)


def taken(given: dict[str, Any]) -> dict[str, Any]:
    """Take these flags out of ``given``; the fields of a campaign that they are.

    A shadow is waited for as long as the victim is, by ``--timeout`` and ``--patience``. In which
    form it answers is its own: one may stand before a victim of logits, and answer probabilities.

    Raises:
        click.UsageError: some of them lack another.
    """
    from attack_client.adaptive.known import KnownDefense
    from attack_client.adaptive.shadow import ShadowService

    factory, options = given.pop("known_defense"), given.pop("known_options")
    url, key = given.pop("shadow_url"), given.pop("shadow_key")
    models = given.pop("shadow_defended"), given.pop("shadow_plain")
    softmax = given.pop("shadow_softmax")
    if options and factory is None:
        raise click.UsageError("--known-options are those of --known-defense, which is not given")
    if (url is None and any(models)) or (url is not None and not all(models)):
        raise click.UsageError(
            "--shadow-url, --shadow-defended and --shadow-plain are given together or not at all"
        )
    if softmax and url is None:
        raise click.UsageError("--shadow-softmax is of --shadow-url, which is not given")
    shadow = None
    if url is not None:
        shadow = ShadowService(
            url,
            *models,
            api_key=key,
            timeout_s=given["timeout_s"],
            patience_s=given["patience_s"],
            softmax=softmax,
        )
    return {
        "adapt": given.pop("adapt"),
        "known": None if factory is None else KnownDefense(factory, options),
        "shadow": shadow,
    }
