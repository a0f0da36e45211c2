"""``intaglio keys``: who may ask, and how much; counts at once for every server on the store."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from models.sentence import Sentence
from models.validation import first_problem
from server.cli import assignment
from server.keys_options import burst_at, fields_of, grace, latest_of, limits

if TYPE_CHECKING:
    from server.callers.key_store import KeyStore
    from server.callers.keys import KeyRecord
    from server.settings import Settings

__all__ = ["keys"]

T = TypeVar("T")


@click.group()
@click.option(
    "--config", type=click.Path(path_type=Path), help="The server's settings as a YAML file."
)
@click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="KEY=VALUE",
    callback=assignment,
    help="One setting, for instance callers.store=file. Repeatable.",
)
@click.help_option("-h", "--help")
@click.pass_context
def keys(context: click.Context, config: Path | None, assignments: dict[str, Any]) -> None:
    """Create, list, change, rotate and revoke API keys.

    Takes the same settings as the server (file, INTAGLIO_ variables, --set); callers.store says
    where the keys are kept. Running servers see every change at their next request.
    """
    context.obj = (config, assignments)


@keys.command()
@limits(new=True)
@click.option("--json", "as_json", is_flag=True, help="Print the key and its record as JSON.")
@click.pass_context
def create(context: click.Context, /, *, as_json: bool, **given: Any) -> None:
    """Create a key and print it; it is never shown again."""
    from server.callers.keys import new_key

    fields = fields_of(given)
    if "rate" in fields and "burst" not in fields:
        fields["burst"] = burst_at(fields["rate"], None)
    made = _checked(lambda: new_key(**fields))

    def put(before: KeyRecord | None) -> KeyRecord:
        assert before is None, "48 random bits were drawn twice"
        return made.record

    _in_store(context, lambda store: store.change(made.record.id, put))
    _print_secret(made.secret, made.record, as_json=as_json, what="created")


@keys.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print the records as JSON.")
@click.pass_context
def list_(context: click.Context, *, as_json: bool) -> None:
    """List the keys, oldest first, without their secrets, and what each has used in all."""
    records: Sequence[KeyRecord] = _in_store(context, lambda store: store.records())
    used = _used(context, records)
    if as_json:
        shown = [
            {**_shown(record), "lifetime_used": used.get(record.identity)} for record in records
        ]
        click.echo(json.dumps(shown, indent=2))
        return
    if not records:
        click.echo("There are no keys yet: intaglio keys create")
        return
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from models.console import open_console, print_table

    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("id", no_wrap=True)
    table.add_column("name", overflow="fold")
    for title in ("scopes", "tier", "samples/s", "per day", "used/lifetime", "state"):
        table.add_column(title)
    for record in records:
        table.add_row(
            record.id,
            Text(record.name),
            ", ".join(record.scopes),
            record.tier or "-",
            "-" if record.rate is None else f"{record.rate:g} (burst {record.burst:,})",
            "-" if record.per_day is None else f"{record.per_day:,}",
            _share(used.get(record.identity), record.lifetime),
            _state(record),
        )
    print_table(open_console(), table)


@keys.command()
@click.argument("key_id", metavar="ID")
@limits(new=False)
@click.option(
    "--clear",
    multiple=True,
    type=click.Choice(("tier", "rate", "per-day", "lifetime", "expires")),
    help="Remove this limit. Repeatable.",
)
@click.pass_context
def change(context: click.Context, /, key_id: str, clear: tuple[str, ...], **given: Any) -> None:
    """Change what the key ID may do; what it has used so far still counts.

    A new --rate keeps the burst, which must be a whole number of seconds at that rate, too:
    otherwise give --burst as well.
    """
    fields: dict[str, Any] = {item.replace("-", "_"): None for item in clear}
    if "rate" in fields:
        fields["burst"] = None
    asked = fields_of(given)
    fields |= asked
    if not fields:
        raise click.UsageError("give at least one option")

    def changed(before: KeyRecord | None) -> KeyRecord:
        from server.callers.keys import KeyRecord

        there = _there(before, key_id)
        record = {**there.model_dump(), **fields}
        if "rate" in asked and "burst" not in asked:
            record["burst"] = burst_at(asked["rate"], record["burst"])
        return _checked(lambda: KeyRecord.model_validate(record))

    record = _in_store(context, lambda store: store.change(key_id, changed))
    click.echo(f"changed {record.id}", err=True)


@keys.command()
@click.argument("key_id", metavar="ID")
@grace
@click.option("--json", "as_json", is_flag=True, help="Print the key and its record as JSON.")
@click.pass_context
def rotate(
    context: click.Context,
    key_id: str,
    grace_s: float,
    *,
    lost: bool,
    deployed: bool,
    as_json: bool,
) -> None:
    """Give the key ID a new secret and print it; limits, budgets and usage stay."""
    from server.callers.keys import NewKey, StillInGrace, rotated

    latest = latest_of(lost=lost, deployed=deployed)
    made: NewKey | None = None

    def changed(before: KeyRecord | None) -> KeyRecord:
        nonlocal made
        there = _there(before, key_id)
        if there.revoked is not None:
            raise Sentence(f"the key {key_id} is revoked")
        if not there.usable(datetime.now(UTC)):
            raise Sentence(
                f"the key {key_id} has expired: 'intaglio keys change {key_id} --expires ...' first"
            )
        try:
            made = rotated(there, grace_s=grace_s, latest=latest)
        except StillInGrace as running:
            raise Sentence(
                f"the key {key_id} is still in the grace of an earlier rotation, until "
                f"{running.until:%Y-%m-%d %H:%M}Z: say --lost (the secret that it gave is "
                "dropped, the one from before it keeps working) or --deployed (the secret that it "
                "gave keeps working, the one from before it ends)"
            ) from None
        except ValueError as error:
            raise click.UsageError(f"--{error}") from None
        return made.record

    record = _in_store(context, lambda store: store.change(key_id, changed))
    assert made is not None
    _print_secret(made.secret, record, as_json=as_json, what="rotated")


@keys.command()
@click.argument("key_id", metavar="ID")
@click.pass_context
def revoke(context: click.Context, key_id: str) -> None:
    """Revoke the key ID permanently; every server refuses it from its next request on."""

    def changed(before: KeyRecord | None) -> KeyRecord:
        there = _there(before, key_id)
        now = datetime.now(UTC)
        return there.model_copy(
            update={"revoked": there.revoked or now, "replaced": None, "replaced_until": None}
        )

    record = _in_store(context, lambda store: store.change(key_id, changed))
    click.echo(f"revoked {record.id}", err=True)


def _there(record: KeyRecord | None, key_id: str) -> KeyRecord:
    if record is None:
        raise Sentence(f"there is no key {key_id!r}: see 'intaglio keys list'")
    return record


def _checked(make: Callable[[], T]) -> T:
    """What ``make`` makes, or one sentence why it cannot be made."""
    from pydantic import ValidationError

    try:
        return make()
    except ValidationError as error:
        # What holds between fields is said of the whole, and names its option first.
        field, _, problem = first_problem(error, root="").partition(": ")
        option = field.partition(".")[0].replace("_", "-")
        raise click.UsageError(f"--{option}: {problem}" if option else f"--{problem}") from None


def _in_store(context: click.Context, work: Callable[[KeyStore], Awaitable[T]]) -> T:
    """What ``work`` does to the store that the settings name."""
    from server.callers.assembly import open_key_store
    from server.errors import ConfigurationError, KeyStoreError

    config, assignments = context.obj

    async def opened(settings: Settings) -> T:
        async with open_key_store(settings) as store:
            return await work(store)

    try:
        return asyncio.run(opened(_settings(config, assignments)))
    except (ConfigurationError, KeyStoreError) as error:
        raise Sentence(str(error)) from error


def _used(context: click.Context, records: Sequence[KeyRecord]) -> Mapping[str, int]:
    """Samples that each key has used ever, by identity; nothing, and a remark, if nobody knows."""
    from server.callers.spent import lifetimes
    from server.errors import ConfigurationError

    config, assignments = context.obj
    if not records:
        return {}
    try:
        settings = _settings(config, assignments)
        return asyncio.run(lifetimes(settings, [record.identity for record in records]))
    except ConfigurationError as error:
        click.echo(f"What was used is not known: {error}", err=True)
        return {}


def _share(used: int | None, lifetime: int | None) -> str:
    """``600/1,000``: the samples used, and those there are where that is limited."""
    shown = "-" if used is None else f"{used:,}"
    return shown if lifetime is None else f"{shown}/{lifetime:,}"


def _settings(config: Path | None, assignments: dict[str, Any]) -> Settings:
    from server.settings import load_settings

    # Keys do not depend on what is served, and a machine that has no models may hold them.
    return load_settings(config, **{"model_dir": Path(), **assignments})


def _print_secret(secret: str, record: KeyRecord, *, as_json: bool, what: str) -> None:
    if as_json:
        click.echo(json.dumps({"key": secret, **_shown(record)}, indent=2))
        return
    # The key alone on standard output, so that a script can take it.
    click.echo(f"{what} {record.id}; this is the only time that the key is shown:", err=True)
    click.echo(secret)


def _shown(record: KeyRecord) -> dict[str, Any]:
    """The record without its digests: nobody needs them."""
    return record.model_dump(mode="json", exclude={"digest", "replaced"})


def _state(record: KeyRecord) -> str:
    if record.revoked is not None:
        return f"revoked {record.revoked:%Y-%m-%d}"
    if record.expires is None:
        return "valid"
    ends = "expires" if record.usable(datetime.now(UTC)) else "expired"
    return f"{ends} {record.expires:%Y-%m-%d %H:%M}Z"
