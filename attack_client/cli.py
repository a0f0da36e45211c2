"""``intaglio attack``: a subcommand per attack, and ``show``.

Importing this imports no torch, no httpx: ``--help`` answers at once.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from attack_client.adaptive.options import OPTIONS as ADAPTIVE
from attack_client.adaptive.options import taken
from attack_client.finite_range import FiniteRange
from models.sentence import Sentence, system_problem

if TYPE_CHECKING:
    from attack_client.campaign import Campaign, Study
    from attack_client.report.schema import Labels

__all__ = ["attack"]

BUILT_IN = {
    "attribution": "Random images of a pool, asked for with the victim's attribution maps.",
    "composite": "Composite images: blends of a pool's images. "
    "Options: parts (2), concentration (1), per_epoch (none: drawn once).",
    "distil": "Distillation with the victim's own training data and its labels.",
    "jbda": "Jacobian-based augmentation; the pool are seeds of the victim's own kind. "
    "Options: seeds (150), choose (first, random), step (ini, strong, or pixels in [0, 1]), "
    "epochs (10), labels (soft, hard), flip_every, reservoir, reservoir_after (3).",
    "jbda-tr": "As jbda, towards a random class in small steps. Options: those, and steps (5).",
    "knockoff": "KnockoffNets: images of an unrelated pool, each asked once. "
    "Options: strategy (random, adaptive), reward (cert, div, loss, all), stride (64).",
}


class AttackGroup(click.Group):
    """``show``, and every attack: ours and those of installed packages."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names; plug-ins are named without being imported."""
        from importlib.metadata import entry_points

        plug_ins = entry_points(group="intaglio.attacks").names
        return sorted({*BUILT_IN, *plug_ins, *super().list_commands(ctx)})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of an attack; all of them take the same options."""
        own = super().get_command(ctx, cmd_name)
        if own is not None or cmd_name not in self.list_commands(ctx):
            return own
        if cmd_name == "attribution":
            from attack_client.attacks.attribution_command import attribution_command

            return attribution_command(_attack_command(cmd_name))
        if cmd_name == "distil":
            from attack_client.attacks.distil_command import distil_command

            return distil_command(_attack_command(cmd_name))
        return _attack_command(cmd_name)


@click.group(cls=AttackGroup, context_settings={"help_option_names": ["-h", "--help"]})
def attack() -> None:
    """Steal a model over HTTP and report what it leaked.

    Attack only what you may attack: your own service, or one whose operator agreed.
    """


@attack.command()
@click.argument("directory", type=click.Path(path_type=Path))
def show(directory: Path) -> None:
    """Print what the transfer set in DIRECTORY holds."""
    from attack_client.campaign import TRANSFER
    from attack_client.errors import AttackError
    from attack_client.inspection import inspect_transfer_set

    nested = directory / TRANSFER
    try:
        for name, value in inspect_transfer_set(nested if nested.is_dir() else directory):
            click.echo(f"{name:16} {value}")
    except AttackError as error:
        raise Sentence(str(error)) from error


def _budgets(ctx: click.Context, parameter: click.Parameter, value: str) -> tuple[int, ...]:
    if value == "all":
        return ()
    try:
        budgets = sorted({int(part.replace("_", "")) for part in value.split(",")})
    except ValueError as error:
        raise click.BadParameter("give a number, or several with commas", ctx, parameter) from error
    if budgets[0] < 1:
        raise click.BadParameter("every budget must be at least 1", ctx, parameter)
    return tuple(budgets)


def _labels(ctx: click.Context, parameter: click.Parameter, value: str) -> tuple[Labels, ...]:
    given = value.split(",")
    if not set(given) <= {"soft", "hard"}:
        raise click.BadParameter("give soft, hard or soft,hard", ctx, parameter)
    kinds: tuple[Labels, ...] = ("soft", "hard")
    return tuple(kind for kind in kinds if kind in given)


def _shape(
    ctx: click.Context, parameter: click.Parameter, value: str | None
) -> tuple[int, int, int] | None:
    if value is None:
        return None
    parts = value.split("x")
    if len(parts) != 3 or not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise click.BadParameter("give CxHxW, for instance 1x28x28", ctx, parameter)
    return int(parts[0]), int(parts[1]), int(parts[2])


def _settings(
    ctx: click.Context, parameter: click.Parameter, value: tuple[str, ...]
) -> dict[str, Any]:
    import yaml

    options = {}
    for pair in value:
        name, equals, text = pair.partition("=")
        if not equals or not name:
            raise click.BadParameter(f"{pair!r} is not NAME=VALUE", ctx, parameter)
        try:
            options[name] = yaml.safe_load(text)
        except (yaml.YAMLError, ValueError) as error:
            raise click.BadParameter(f"{pair!r}: the value is not YAML", ctx, parameter) from error
    return options


OPTIONS: tuple[Callable[[Callable[..., None]], Callable[..., None]], ...] = (
    click.option("--url", required=True, help="Server that speaks the V2 protocol."),
    click.option("--model", required=True, help="Served model: NAME or NAME/VERSION."),
    click.option("--pool", required=True, metavar="DATASET", help="The surrogate pool."),
    click.option(
        "--budget",
        "budgets",
        required=True,
        callback=_budgets,
        metavar="N[,N...]|all",
        help="Queries; with several, the smaller ones are prefixes of the largest. "
        "'all' asks about the whole pool.",
    ),
    click.option(
        "--labels",
        default="soft",
        show_default=True,
        callback=_labels,
        metavar="soft|hard",
        help="What clones learn from: soft, hard or soft,hard.",
    ),
    click.option("--clone", required=True, metavar="ARCH", help="Architecture of the clone."),
    click.option("--test", required=True, metavar="DATASET", help="The victim's own task."),
    click.option("--out", required=True, type=click.Path(path_type=Path), metavar="DIR"),
    click.option("--resume", is_flag=True, help="Go on with the transfer set in --out."),
    click.option("--moved", is_flag=True, help="With --resume: the victim has a new URL."),
    click.option("--api-key", envvar="INTAGLIO_API_KEY", show_envvar=True, help="The thief's key."),
    click.option(
        "--operator-key",
        envvar="INTAGLIO_OPERATOR_KEY",
        show_envvar=True,
        help="Key of honest queries, kept apart from the attack's.",
    ),
    click.option(
        "--honest/--no-honest", "honest_queries", default=True, help="Ask as an honest one, too."
    ),
    click.option("--reference", type=click.Path(path_type=Path), help="Bundle of the plain model."),
    click.option("--defense", metavar="NAME", help="What the report calls the victim's defense."),
    click.option(
        "--data-root",
        type=click.Path(path_type=Path),
        envvar="INTAGLIO_DATA_ROOT",
        show_envvar=True,
        help="Where datasets lie.",
    ),
    click.option("--batch", default=64, show_default=True, type=click.IntRange(1, 65536)),
    click.option("--concurrency", default=4, show_default=True, type=click.IntRange(1, 256)),
    click.option(
        "--timeout",
        "timeout_s",
        default=60.0,
        show_default=True,
        type=FiniteRange(0.0, 86400.0, min_open=True),
        metavar="SECONDS",
        help="For connecting, and for every read and write.",
    ),
    click.option(
        "--patience",
        "patience_s",
        type=FiniteRange(0.0, 31_536_000.0),
        metavar="SECONDS",
        help="Waits between the attempts of one request, all together; 0 tries once. "
        "Default: 300, and 8 attempts at most.",
    ),
    click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0)),
    click.option(
        "--split-seed",
        type=click.IntRange(0, 2**32 - 1),
        help="Of datasets that come without a split; default: the reference's, else 0.",
    ),
    click.option("--epochs", type=click.IntRange(min=1), help="Of a clone; default: the recipe's."),
    click.option(
        "--recipe",
        default="default",
        show_default=True,
        metavar="NAME|FILE.yaml",
        help="How clones are trained: default, am-mnist, distil-cifar10, distil-cifar100, "
        "distil-cnn, grad2, ini-knockoff, knockoffnets, modelguard, or a file.",
    ),
    click.option(
        "--augment",
        type=click.Choice(["none", "shift", "crop-flip"]),
        help="Of the clones' images; default: the recipe's.",
    ),
    click.option("--holdout", default=0.0, type=FiniteRange(0, 0.5), help="Choose the epoch."),
    click.option("--allow-factory", multiple=True, metavar="package.module:name"),
    click.option("--shape", callback=_shape, metavar="CxHxW", help="If the model leaves it open."),
    click.option("--latency-requests", default=200, show_default=True, type=click.IntRange(min=0)),
    click.option(
        "--price-per-thousand",
        type=FiniteRange(0.0, 1e9),
        metavar="PRICE",
        help="Of queries, for the report.",
    ),
    click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda:N."),
    click.option(
        "--set", "options", multiple=True, callback=_settings, help="NAME=VALUE of the attack."
    ),
    *ADAPTIVE,
)


def _attack_command(kind: str) -> click.Command:
    def run(
        *,
        clone: str,
        recipe: str,
        epochs: int | None,
        augment: Any,
        holdout: float,
        allow_factory: tuple[str, ...],
        study: Study | None = None,
        **given: Any,
    ) -> None:
        from attack_client.campaign import Campaign
        from attack_client.clone_recipes import clone_recipe
        from attack_client.errors import AttackError

        try:
            trained = clone_recipe(
                recipe,
                architecture=clone,
                epochs=epochs,
                augment=augment,
                holdout=holdout,
                allow_factories=allow_factory,
            )
        except AttackError as error:
            raise Sentence(str(error)) from error
        given |= taken(given)
        _run(Campaign(attack=kind, recipe=trained, command=sys.argv, **given), study)

    for option in reversed(OPTIONS):
        run = option(run)
    about = BUILT_IN.get(kind, f"Attack {kind!r} of an installed package.")
    return click.command(name=kind, help=about)(run)


def _run(campaign: Campaign, study: Study | None) -> None:
    from rich.console import Console

    from attack_client.campaign import run_campaign
    from attack_client.errors import AttackError
    from models.errors import ModelsError

    try:
        run_campaign(campaign, Console(), study)
    except (AttackError, ModelsError) as error:
        raise Sentence(str(error)) from error
    except OSError as error:
        raise Sentence(
            f"{system_problem(error, campaign.out)} "
            "(what was answered is on disk: go on with --resume)"
        ) from error
    except KeyboardInterrupt:
        click.echo("Interrupted: every answer is on disk, go on with --resume.", err=True)
        raise SystemExit(130) from None
