"""The flags that every ``intaglio attack`` command takes.

Importing this imports no torch, no httpx: ``--help`` answers at once.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from attack_client.adaptive.options import OPTIONS as ADAPTIVE
from attack_client.finite_range import FiniteRange

if TYPE_CHECKING:
    from attack_client.report.schema import Labels

__all__ = ["OPTIONS"]


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
        "'all' queries the whole pool.",
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
    click.option(
        "--out",
        required=True,
        type=click.Path(path_type=Path),
        metavar="DIR",
        help="Directory for the transfer set and the report.",
    ),
    click.option("--resume", is_flag=True, help="Go on with the transfer set in --out."),
    click.option("--moved", is_flag=True, help="With --resume: the victim has a new URL."),
    click.option("--api-key", envvar="INTAGLIO_API_KEY", show_envvar=True, help="The thief's key."),
    click.option(
        "--operator-key",
        envvar="INTAGLIO_OPERATOR_KEY",
        show_envvar=True,
        help="Key for honest queries, kept apart from the attack's.  [default: the thief's]",
    ),
    click.option(
        "--honest/--no-honest",
        "honest_queries",
        default=True,
        show_default=True,
        help="Also query the test set as an honest caller, to measure benign accuracy. If that "
        "fails, the report has dashes there and the exit status is 1.",
    ),
    click.option("--reference", type=click.Path(path_type=Path), help="Bundle of the plain model."),
    click.option("--defense", metavar="NAME", help="What the report calls the victim's defense."),
    click.option(
        "--data-root",
        type=click.Path(path_type=Path),
        envvar="INTAGLIO_DATA_ROOT",
        show_envvar=True,
        help="Where datasets are looked for.",
    ),
    click.option(
        "--batch",
        default=64,
        show_default=True,
        type=click.IntRange(1, 65536),
        help="Images per request.",
    ),
    click.option(
        "--concurrency",
        default=4,
        show_default=True,
        type=click.IntRange(1, 256),
        help="Requests in flight.",
    ),
    click.option(
        "--timeout",
        "timeout_s",
        default=60.0,
        show_default=True,
        type=FiniteRange(0.0, 86400.0, min_open=True),
        metavar="SECONDS",
        help="Limit for connecting, and for every read and write.",
    ),
    click.option(
        "--patience",
        "patience_s",
        type=FiniteRange(0.0, 31_536_000.0),
        metavar="SECONDS",
        help="Most time to wait between the attempts of one request, in all; 0 tries once.  "
        "[default: 300, and 8 attempts at most, 4 after a 429 without Retry-After]",
    ),
    click.option(
        "--seed",
        default=0,
        show_default=True,
        type=click.IntRange(min=0),
        help="Seed of the attack and of the clones.",
    ),
    click.option(
        "--split-seed",
        type=click.IntRange(0, 2**32 - 1),
        help="Seed that splits datasets which come without a test set.  [default: that of "
        "--reference, else 0]",
    ),
    click.option(
        "--epochs",
        type=click.IntRange(min=1),
        help="Epochs of a clone.  [default: the recipe's]",
    ),
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
        help="Augmentation of the clones' images.  [default: the recipe's]",
    ),
    click.option(
        "--holdout",
        default=0.0,
        show_default=True,
        type=FiniteRange(0, 0.5),
        help="Share of the answers held out to choose the clone's epoch by; 0 keeps the last.",
    ),
    click.option(
        "--allow-factory",
        multiple=True,
        metavar="FACTORY",
        help="Let --clone name this architecture of your own: package.module:name or file.py:name.",
    ),
    click.option(
        "--shape",
        callback=_shape,
        metavar="CxHxW",
        help="Shape of an image, where the model leaves it open.",
    ),
    click.option(
        "--latency-requests",
        default=200,
        show_default=True,
        type=click.IntRange(min=0),
        help="Single-image requests to time, up to a quarter more if some had to be sent again; "
        "0 measures no latency.",
    ),
    click.option(
        "--price-per-thousand",
        type=FiniteRange(0.0, 1e9),
        metavar="PRICE",
        help="Price of a thousand queries, for the report.",
    ),
    click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda:N."),
    click.option(
        "--set",
        "options",
        multiple=True,
        callback=_settings,
        metavar="NAME=VALUE",
        help="An option of the attack. Repeatable.",
    ),
    *ADAPTIVE,
)
