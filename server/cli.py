"""``intaglio serve``: flags, strongest of all sources, on top of the settings."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from models.sentence import PlainCommand, Sentence

__all__ = ["assignment", "serve"]


def assignment(
    context: click.Context, parameter: click.Parameter, values: tuple[str, ...]
) -> dict[str, Any]:
    """``batching.max_batch_size=32`` as nested mappings; values are YAML."""
    del context, parameter
    import yaml

    from models.strict_yaml import load_yaml

    nested: dict[str, Any] = {}
    for value in values:
        path, separator, text = value.partition("=")
        if not separator or not path:
            raise click.BadParameter(f"{value!r} is not KEY=VALUE")
        *sections, key = path.split(".")
        place = nested
        for section in sections:
            place = place.setdefault(section, {})
            if not isinstance(place, dict):
                raise click.BadParameter(f"{path!r} sets a part of what was set as a whole before")
        try:
            place[key] = load_yaml(text)
        except yaml.YAMLError as error:
            problem = getattr(error, "problem", None) or "it cannot be read"
            raise click.BadParameter(f"the value of {path!r} is not YAML: {problem}") from None
    return nested


LINKS = (
    "am", "dd-i", "dd-s", "deepdefense", "grad2", "label-only", "mad", "modelguard-s",
    "modelguard-w", "reverse-sigmoid", "rounding", "stingy", "top-k",
)  # fmt: skip
"""Written out, because help should not wait for the defenses to be imported."""


@click.command(
    cls=PlainCommand,
    epilog="Settings come from four sources, strongest first: flags, environment variables "
    "(INTAGLIO_PORT, INTAGLIO_BATCHING__MAX_BATCH_SIZE), the YAML file, and the default.\n\n"
    "The links that answers pass through are listed under models.NAME.defenses in the YAML file: "
    f"{', '.join(LINKS)}, and those of installed packages. Defenses built into the weights "
    "(ini, ast, nasty, edm, ...) need no link: serve the bundle. docs/defenses.md says what each "
    "is for.",
)
@click.option(
    "--models", "model_dir", type=click.Path(path_type=Path), help="Directory of bundles."
)
@click.option("--config", type=click.Path(path_type=Path), help="Settings as a YAML file.")
@click.option("--host", help="Address of the callers' port.  [default: 127.0.0.1]")
@click.option("--port", type=int, help="The callers' port; 0 takes a free one.  [default: 8000]")
@click.option("--admin-host", help="Address of the operator's port.  [default: 127.0.0.1]")
@click.option(
    "--admin-port",
    type=int,
    help="The operator's port (metrics); 0 takes a free one.  [default: 8001]",
)
@click.option("--device", help="auto, cpu or cuda:N.  [default: auto]")
@click.option(
    "--threads",
    type=int,
    help="CPU threads per forward pass; 0 leaves it to PyTorch.  [default: 0]",
)
@click.option(
    "--allow-factory",
    "allow_factories",
    multiple=True,
    metavar="FACTORY",
    help="Let cards name this architecture of your own: package.module:name or file.py:name. "
    "Repeatable.",
)
@click.option("--log-level", help="debug, info, warning or error.  [default: info]")
@click.option("--log-format", help="plain or json.  [default: plain]")
@click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="KEY=VALUE",
    callback=assignment,
    help="Any other setting, for instance batching.max_batch_size=32. Repeatable.",
)
@click.help_option("-h", "--help")
def serve(
    config: Path | None,
    assignments: dict[str, Any],
    allow_factories: tuple[str, ...],
    **flags: Any,
) -> None:
    """Serve every bundle under a directory, or exactly the models that a configuration lists.

    Prints its URL when ready. SIGHUP re-reads the configuration and the bundles; SIGTERM finishes
    accepted requests and stops.
    """
    from server.errors import ConfigurationError
    from server.settings import Settings, load_settings

    flags = {**assignments, **{key: value for key, value in flags.items() if value is not None}}
    if allow_factories:
        flags["allow_factories"] = allow_factories

    def read() -> Settings:
        return load_settings(config, **flags)

    try:
        settings = read()
        from server.lifecycle import run

        status = run(settings, read)
    except ConfigurationError as error:
        raise Sentence(str(error)) from error
    sys.exit(status)
