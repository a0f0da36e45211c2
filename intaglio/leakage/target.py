"""What a bench attacks: victims trained, and a server that answers for them and their shadows."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from attack_client.adaptive.shadow import ShadowService
from intaglio.leakage.entries import DefenseEntry
from intaglio.leakage.errors import CellError
from intaglio.leakage.kept import Kept
from intaglio.leakage.matrix import Matrix
from intaglio.leakage.victims import bundle_of
from intaglio.processes import Running, serving

__all__ = ["PATIENCE_S", "Target", "serve"]


PATIENCE_S = 300.0
"""All waits of one request to a server of ours, in however many attempts. Several share the cores:
a slow one that is full for a minute is no reason to lose a cell that nobody watches."""


@dataclass(frozen=True, slots=True)
class Target:
    """A server that answers, and who asks.

    Attributes:
        url: of the server.
        model: to ask for.
        key: of the thief.
        operator_key: of honest queries.
        shadows: an attacker's own copies on the same machine, by the name of the attack.
        server: ours that answers; None where it is somebody's.
    """

    url: str
    model: str
    key: str | None = field(default=None, repr=False)
    operator_key: str | None = field(default=None, repr=False)
    shadows: Mapping[str, ShadowService] = field(default_factory=dict)
    server: Running | None = field(default=None, repr=False)

    @property
    def patience_s(self) -> float | None:
        """Waits of one request together; None as for any other victim."""
        return None if self.server is None else PATIENCE_S

    @property
    def gone(self) -> bool:
        """Whether nobody can answer any more, as far as that can be known."""
        return self.server is not None and self.server.ended


@contextlib.contextmanager
def serve(
    matrix: Matrix, defense: str, seed: int, attacks: Sequence[str], kept: Kept, *, threads: int
) -> Iterator[Target]:
    """A server of ``defense`` that answers until the block ends; its weights must be there.

    Args:
        matrix: all of it.
        defense: its name in the table.
        seed: of the victims.
        attacks: names of those that are run; what they have shadows of is served as well.
        kept: where everything of the matrix lies.
        threads: of one computation.

    Raises:
        CellError: bundles lie in several directories, or a key is not in the environment.
        ServerDidNotStart: says why.
    """
    entry = matrix.defenses[defense]
    if entry.url is not None:
        assert entry.model is not None, "the matrix was validated"
        yield Target(
            entry.url,
            entry.model,
            _key(defense, entry.key_env),
            _key(defense, entry.operator_key_env),
        )
        return
    place = kept.out / "servers" / f"{defense}-seed{seed}"
    place.mkdir(parents=True, exist_ok=True)
    assert entry.victim is not None, "the matrix was validated"
    root = bundle_of(matrix, entry.victim, seed, kept).parent.parent
    name = defense.replace("+", "-")  # servers have no plus in a model's name
    models = {name: _described(matrix, entry, seed, kept, root)}
    shadowed = _shadows(matrix, name, entry, attacks)
    for copy in shadowed.values():
        models |= {
            copy.defended: _described(matrix, copy.entry, seed, kept, root),
            copy.plain: _described(matrix, copy.without, seed, kept, root),
        }
    config = place / "serve.yaml"
    settings = {
        "threads": threads,
        "secret_file": str((kept.out / "secret").absolute()),
        **matrix.serve,
        "models": models,
    }
    config.write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")
    allowed = [part for name in matrix.factories for part in ("--allow-factory", name)]
    arguments = ("--config", str(config), *allowed)
    # In the main thread of a process that may be killed, which must not leave a server behind.
    with serving(root, *arguments, log=place / "server.log", tied=True) as server:
        services = {
            attack: ShadowService(server.url, copy.defended, copy.plain, patience_s=PATIENCE_S)
            for attack, copy in shadowed.items()
        }
        yield Target(server.url, name, shadows=services, server=server)


@dataclass(frozen=True, slots=True)
class _Shadow:
    """What an attacker's own copies are called, with the defense and without, and what they are."""

    defended: str
    plain: str
    entry: DefenseEntry
    without: DefenseEntry


def _shadows(
    matrix: Matrix, name: str, defended: DefenseEntry, attacks: Sequence[str]
) -> dict[str, _Shadow]:
    """By the name of the attack; a chain is the victim's own, weights are the attacker's."""
    found = {}
    for number, attack in enumerate(dict.fromkeys(attacks)):
        shadow = matrix.attacks[attack].shadow
        if shadow is not None:
            entry = DefenseEntry(victim=shadow.victim, chain=defended.chain, roles=shadow.roles)
            without = DefenseEntry(victim=shadow.plain or shadow.victim)
            own = f"{name[:40]}-shadow-{number}"  # names have an end
            found[attack] = _Shadow(own, f"{own}-plain", entry, without)
    return found


def _described(
    matrix: Matrix, entry: DefenseEntry, seed: int, kept: Kept, root: Path
) -> dict[str, object]:
    """What the configuration of a server whose bundles lie under ``root`` says of this model."""
    assert entry.victim is not None, "the matrix was validated"
    bundle = _under(root, bundle_of(matrix, entry.victim, seed, kept), "victim")
    roles = {}
    for role, lender in entry.roles.items():
        name, _, lent = lender.partition("#")
        path = _under(root, bundle_of(matrix, name, seed, kept), f"roles.{role}")
        roles[role] = f"{path.parent.name}/{path.name}#{lent or role}"
    served: dict[str, object] = {
        "victim": f"{bundle.parent.name}/{bundle.name}",
        "defenses": [dict(link) for link in entry.chain],
    }
    if roles:
        served["roles"] = roles
    if entry.explanations is not None:
        served["explanations"] = entry.explanations
    return served


def _under(root: Path, bundle: Path, key: str) -> Path:
    if bundle.parent.parent != root:
        raise CellError(
            f"{key}: bundles of one server must lie in one directory, and {bundle} is not under "
            f"{root}"
        )
    return bundle


def _key(defense: str, variable: str | None) -> str | None:
    if variable is None:
        return None
    key = os.environ.get(variable)
    if not key:
        raise CellError(f"defense {defense} needs the key in the environment: set {variable}")
    return key
