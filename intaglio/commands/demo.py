"""``intaglio demo``: the main job, end to end, on bundled images."""

from __future__ import annotations

from pathlib import Path

import click

__all__ = ["demo"]


@click.command()
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("runs/demo"),
    show_default=True,
    help="Where models, transfer sets and the report go.",
)
@click.option(
    "--all",
    "everything",
    is_flag=True,
    help="All defenses and chains; prints how long that takes.",
)
@click.option(
    "--defense",
    "chosen",
    multiple=True,
    metavar="NAME",
    help="Only this defense, and the undefended baseline. Repeatable.",
)
@click.option(
    "--splits",
    type=click.IntRange(1, 20),
    default=1,
    show_default=True,
    help="Random splits of the digits to average over.",
)
def demo(out: Path, everything: bool, chosen: tuple[str, ...], splits: int) -> None:
    """Train a small victim, serve it, steal it over HTTP, and print what leaked.

    Takes about three minutes on two CPU cores and needs no network. A stopped run continues where
    it was; delete the directory to start over.
    """
    from attack_client.errors import AttackError
    from intaglio.demo import BUDGETS, Demo
    from intaglio.demo_defenses import DEFENSES, MORE_DEFENSES
    from intaglio.errors import ServerDidNotStart, StaleDemo
    from models.console import open_console
    from models.errors import ModelsError
    from models.sentence import Sentence

    command = ["intaglio", "demo", *(["--all"] if everything else [])]
    known = {**DEFENSES, **MORE_DEFENSES}
    for name in chosen:
        if name not in known:
            raise click.UsageError(
                f"there is no {name!r} in the demo: there are {', '.join(known)}"
            )
        command += ["--defense", name]
    defenses = known if everything else DEFENSES
    if chosen:
        defenses = {name: known[name] for name in known if name in {"none", *chosen}}
    if splits > 1:
        command += ["--splits", str(splits)]
    out.mkdir(parents=True, exist_ok=True)
    job = Demo(
        out=out,
        defenses=defenses,
        splits=splits,
        budgets=BUDGETS,
        console=open_console(),
    )
    try:
        job.run(command)
    except (AttackError, ModelsError, ServerDidNotStart, StaleDemo) as error:
        raise Sentence(str(error)) from error
