"""The ``intaglio`` command: subcommands by name, each imported when it is asked for."""

from __future__ import annotations

import importlib

import click

from intaglio import __version__
from models.sentence import PlainGroup, Sentence

__all__ = ["main"]

COMMANDS = {
    # name: (where it lives, what --help says of it)
    "serve": ("server.cli:serve", "Serve every bundle under a directory."),
    "keys": ("server.keys_cli:keys", "Create, list, change, rotate and revoke API keys."),
    "audit": ("intaglio.commands.audit:audit", "Summarise the audit log by caller."),
    "models": ("intaglio.commands.models:models", "List, show, measure and import bundles."),
    "train": ("intaglio.commands.train:train", "Train a recipe and write a bundle."),
    "calibrate": ("intaglio.commands.calibrate:calibrate", "Measure what a defense needs to know."),
    "attack": ("attack_client.cli:attack", "Steal a model over HTTP and report what it leaked."),
    "leakage": (
        "intaglio.commands.leakage:leakage",
        "Measure what each attack steals despite each defense; a release gate.",
    ),
    "demo": ("intaglio.commands.demo:demo", "Train, serve, steal and report on bundled images."),
}

EXTRAS = {
    # library: the extra that brings it
    "fastapi": "server",
    "limits": "server",
    "prometheus_client": "server",
    "pydantic_settings": "server",
    "python_multipart": "server",
    "redis": "redis",
    "scipy": "server",
    "uvicorn": "server",
    "httpx": "attack",
    "matplotlib": "attack",
    "opentelemetry": "otel",
    "ray": "ray",
    "sklearn": "data",
    "tensorboard": "tensorboard",
}


class LazyGroup(PlainGroup):
    """A group that imports a subcommand only to run it, so that ``--help`` answers at once."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names, in the order in which a newcomer meets them."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return one subcommand."""
        del ctx
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name][0].partition(":")
        try:
            command = getattr(importlib.import_module(module), name)
        except ModuleNotFoundError as error:
            raise _missing(error) from error
        assert isinstance(command, click.Command)
        return command

    def invoke(self, ctx: click.Context) -> object:
        """Run a subcommand; say which extra to install if a library of another role is missing."""
        try:
            return super().invoke(ctx)
        except ModuleNotFoundError as error:
            raise _missing(error) from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the subcommands without importing them."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, help_) for name, (_, help_) in COMMANDS.items()])


def _missing(error: ModuleNotFoundError) -> Exception:
    library = (error.name or "").partition(".")[0]
    extra = EXTRAS.get(library)
    if extra is None:
        return error
    return Sentence(
        f"this needs {library}, which is not installed: pip install 'intaglio[{extra}]'"
    )


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="intaglio")
def main() -> None:
    """Serve an image classifier without giving it away, and measure what it leaks."""
