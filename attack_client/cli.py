"""``intaglio attack``: a subcommand per attack, and ``show``.

Importing this imports no torch, no httpx: ``--help`` answers at once.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from attack_client.adaptive.options import taken
from attack_client.attack_options import OPTIONS
from models.sentence import PlainGroup, Sentence, system_problem

if TYPE_CHECKING:
    from attack_client.campaign import Campaign, Study

__all__ = ["attack"]

BUILT_IN = {
    "attribution": "Random images of a pool, queried for the victim's attribution maps too.",
    "composite": "Composite images: blends of a pool's images. "
    "Options: parts (2), concentration (1), per_epoch (none: drawn once).",
    "distil": "Distillation with the victim's own training data and its labels.",
    "jbda": "Jacobian-based augmentation; the pool holds seeds of the victim's own kind. "
    "Options: seeds (150), choose (first, random), step (ini, strong, or pixels in [0, 1]), "
    "epochs (10), labels (soft, hard), flip_every, reservoir, reservoir_after (3).",
    "jbda-tr": "Like jbda, towards a random class in small steps. "
    "Options: the same, and steps (5).",
    "knockoff": "KnockoffNets: images of an unrelated pool, each queried once. "
    "Options: strategy (random, adaptive), reward (cert, div, loss, all), stride (64).",
}


class Incomplete(Sentence):
    """A report that is written and lacks something; status 2 is left to one that is not."""

    exit_code = 1


class AttackGroup(PlainGroup):
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


class PlugIn(click.Command):
    """An attack of an installed package, which is imported only by who asks for its own help."""

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """What its docstring says, and its options."""
        from attack_client.attacks.options import describe
        from attack_client.attacks.registry import kinds

        try:
            self.help = describe(kinds()[str(self.name)]) or self.help
        except Exception as error:  # of whatever the package does: its name and the flags stand
            self.help = f"{self.help} It cannot be loaded: {error}"
        super().format_help_text(ctx, formatter)


@click.group(cls=AttackGroup, context_settings={"help_option_names": ["-h", "--help"]})
def attack() -> None:
    """Steal a model over HTTP and report what it leaked.

    Attack only what you may attack: your own service, or one whose operator agreed.
    """


@attack.command()
@click.argument("directory", type=click.Path(path_type=Path))
def show(directory: Path) -> None:
    """Print what the transfer set in DIRECTORY holds."""
    from attack_client.errors import AttackError
    from attack_client.inspection import inspect_transfer_set
    from attack_client.transfer_files import TRANSFER

    nested = directory / TRANSFER
    try:
        for name, value in inspect_transfer_set(nested if nested.is_dir() else directory):
            click.echo(f"{name:16} {value}")
    except AttackError as error:
        raise Sentence(str(error)) from error


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
    if kind in BUILT_IN:
        return click.command(name=kind, help=BUILT_IN[kind])(run)
    about = f"Attack {kind!r} of an installed package."
    return click.command(name=kind, cls=PlugIn, help=about)(run)


def _run(campaign: Campaign, study: Study | None) -> None:
    from attack_client.campaign import run_campaign
    from attack_client.errors import AttackError, HonestUnmeasured
    from models.console import open_console
    from models.errors import ModelsError

    try:
        run_campaign(campaign, open_console(), study)
    except HonestUnmeasured as error:
        raise Incomplete(str(error)) from error
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
