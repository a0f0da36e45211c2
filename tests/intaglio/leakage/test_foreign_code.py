"""Cells that were had with a plug-in or a factory are not those of its next version."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from intaglio.leakage import foreign_code
from intaglio.leakage.bench import Bench, _shelf
from intaglio.leakage.cells import Cell, cells_of, digest, theft_digest
from intaglio.leakage.kept import Kept
from intaglio.leakage.matrix import Matrix, load_matrix, shipped_matrices
from intaglio.leakage.weights import victim_digest
from tests.intaglio.leakage.conftest import matrix_of
from tests.models.builders import edit_card, tiny_bundle

DEFENSE = """
from defenses.contract import Answers, Defense, Queries, Stage
from own_base import Base

class Fade(Base, Defense):
    kind = "fade"
    stage = Stage.PERTURB

    def apply(self, queries: Queries, answers: Answers) -> Answers:
        return answers
"""
ATTACK = """
from attack_client.contract import Attack

class Edge(Attack):
    kind = "edge"

    async def run(self, oracle, pool):
        await oracle.ask(0, pool.images[: oracle.budget])
"""
ADD_ON = """
from attack_client.adaptive.contract import Answering

class Blur(Answering):
    kind = "blur"

    def apply(self, harvest, knowledge):
        return harvest
"""
NETWORK = """
from models.architectures.lenet import lenet

def network(**given):
    return lenet(**given)

def defense(*, classes):
    return lambda said: said
"""
FILES = {
    "own_base": "class Base:\n    pass\n",
    "own_defense": DEFENSE,
    "own_attack": ATTACK,
    "own_add_on": ADD_ON,
    "own_net": NETWORK,
    "own_shop": "from own_attack import Edge\n",
}
ENTRIES = """
[intaglio.defenses]
fade = own_defense:Fade
[intaglio.attacks]
edge = own_attack:Edge
[intaglio.adaptations]
blur = own_add_on:Blur
[intaglio.architectures]
own = own_net:network
"""


def _forget() -> None:
    """As a process that begins: nothing is loaded, nothing was looked at."""
    for name in (*FILES, "own_package", "own_package.base", "own_package.fade"):
        sys.modules.pop(name, None)
    foreign_code._plug_in.cache_clear()
    foreign_code._factory.cache_clear()
    foreign_code._brought_by.cache_clear()


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Distribution ``own`` 1, which brings one of everything."""
    root = tmp_path / "site"
    info = root / "own-1.dist-info"
    info.mkdir(parents=True)
    for name, text in FILES.items():
        (root / f"{name}.py").write_text(text)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: own\nVersion: 1\n")
    (info / "entry_points.txt").write_text(ENTRIES)
    (info / "top_level.txt").write_text("\n".join(FILES) + "\n")
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.syspath_prepend(str(root))
    _forget()
    yield root
    _forget()


def own(root: Path, **changes: Any) -> Matrix:
    values: dict[str, Any] = {
        "budgets": [40],
        "victims": {"plain": {"recipe": "digits-plain"}},
        "defenses": {"none": {"victim": "plain"}},
    }
    return matrix_of("", **(values | changes))


def found(matrix: Matrix) -> tuple[str, str]:
    """Digests of a theft and of a clone."""
    _forget()
    cell = cells_of(matrix)[0]
    return theft_digest(matrix, cell), digest(matrix, cell)


Changes = Callable[[Path], dict[str, Any]]

OWN: dict[str, tuple[str, Changes, bool]] = {
    "defense": (
        "own_defense",
        lambda _: {"defenses": {"none": {"victim": "plain", "chain": [{"kind": "fade"}]}}},
        True,
    ),
    "attack": ("own_attack", lambda _: {"attacks": {"edge": {}}}, True),
    "add-on": ("own_add_on", lambda _: {"attacks": {"knockoff": {"adapt": ["blur"]}}}, False),
    "architecture": ("own_net", lambda _: {"clone": {"architecture": "own"}}, False),
    "file": (
        "own_net",
        lambda root: {"clone": allowed(f"{root / 'own_net.py'}:network")},
        False,
    ),
    "module": ("own_net", lambda _: {"clone": allowed("own_net:network")}, False),
    "known defense": (
        "own_net",
        lambda _: {
            "attacks": {"knockoff": {"adapt": ["recover"], "known_defense": "own_net:defense"}}
        },
        False,
    ),
    "steering clone": (
        "own_net",
        lambda _: {
            "clone": allowed("own_net:network", "lenet"),
            "attacks": {"jbda": {"options": {"clone": "own_net:network"}}},
        },
        True,
    ),
    "victim": (
        "own_net",
        lambda _: {
            "clone": allowed("own_net:network", "lenet"),
            "victims": {
                "plain": {
                    "recipe": "digits-plain",
                    "set": ["architecture.name=own_net:network", "architecture.arguments={}"],
                }
            },
        },
        True,
    ),
}


def allowed(factory: str, architecture: str | None = None) -> dict[str, Any]:
    return {"architecture": architecture or factory, "allow_factories": [factory]}


@pytest.mark.parametrize("what", OWN)
def test_what_is_written_anew_is_measured_anew(installed: Path, what: str) -> None:
    name, changes, steals = OWN[what]
    matrix = own(installed, **changes(installed))
    before = found(matrix)
    assert found(matrix) == before
    file = installed / f"{name}.py"
    file.write_text(file.read_text() + "\nCHANGED = True\n")
    after = found(matrix)
    assert after[1] != before[1]
    assert (after[0] != before[0]) == steals, "what only learns otherwise shares the theft"


@pytest.mark.parametrize("what", ["defense", "attack", "add-on", "architecture", "module"])
def test_another_version_of_a_distribution_is_other_code(installed: Path, what: str) -> None:
    matrix = own(installed, **OWN[what][1](installed))
    before = found(matrix)
    metadata = installed / "own-1.dist-info" / "METADATA"
    metadata.write_text(metadata.read_text().replace("Version: 1", "Version: 2"))
    assert found(matrix)[1] != before[1]


def test_a_class_is_looked_at_where_it_is_written(installed: Path) -> None:
    entries = installed / "own-1.dist-info" / "entry_points.txt"
    entries.write_text(ENTRIES.replace("own_attack:Edge", "own_shop:Edge"))
    matrix = own(installed, attacks={"edge": {}})
    before = found(matrix)
    (installed / "own_attack.py").write_text(ATTACK + "\nCHANGED = True\n")
    assert found(matrix) != before


def test_what_a_class_is_derived_from_is_its_code_too(installed: Path) -> None:
    pair = "class Base:\n    pass\n"
    for name in ("own_defense", "own_base"):
        (installed / f"{name}.py").unlink()
    package = installed / "own_package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "base.py").write_text(pair)
    (package / "fade.py").write_text(DEFENSE.replace("own_base", "own_package.base"))
    entries = installed / "own-1.dist-info" / "entry_points.txt"
    entries.write_text(ENTRIES.replace("own_defense:Fade", "own_package.fade:Fade"))
    matrix = own(installed, **OWN["defense"][1](installed))
    before = found(matrix)
    (package / "base.py").write_text(pair + "CHANGED = True\n")
    assert found(matrix)[0] != before[0]


def test_what_is_not_used_is_not_looked_at(installed: Path) -> None:
    matrix = own(installed)
    before = found(matrix)
    for name in FILES:
        (installed / f"{name}.py").write_text("raise RuntimeError\n")
    (installed / "own-1.dist-info" / "entry_points.txt").unlink()
    assert found(matrix) == before


@pytest.mark.parametrize("name", shipped_matrices())
def test_what_is_built_in_has_no_code(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = load_matrix(name)
    # One cell of everything that there is; the other labels, budgets and seeds are no other code.
    seen = {(cell.defense, cell.attack): cell for cell in cells_of(matrix) if cell.seed == 0}
    told: list[Mapping[str, str]] = []

    def coded(*codes: Mapping[str, str]) -> dict[str, Any]:
        told.extend(codes)
        return {}

    monkeypatch.setattr("intaglio.leakage.cells.coded", coded)
    monkeypatch.setattr("intaglio.leakage.weights.coded", coded)
    for cell in list(seen.values())[::7]:
        digest(matrix, cell)
    assert told
    assert not any(told), "the cells of earlier versions would be measured again"


def test_the_code_of_a_bundles_network_is_part_of_it(installed: Path, tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path)

    def name(architecture: str) -> None:
        edit_card(bundle, lambda card: card["networks"]["victim"].update(architecture=architecture))

    name("elsewhere/own_net.py:network")
    factory = f"{installed / 'own_net.py'}:network"
    clone = {"architecture": "lenet", "allow_factories": [factory]}
    matrix = own(installed, clone=clone, victims={"plain": {"bundle": str(bundle)}})
    before = victim_digest(matrix, "plain", 0)
    (installed / "own_net.py").write_text(NETWORK + "\nCHANGED = True\n")
    _forget()
    assert victim_digest(matrix, "plain", 0) != before


def test_code_that_is_not_allowed_is_not_touched(installed: Path) -> None:
    (installed / "own_net.py").write_text("raise SystemExit('it ran')\n")
    matrix = own(installed, clone={"architecture": "own_net:network"})
    found(matrix)
    assert "own_net" not in sys.modules


def test_what_is_allowed_beside_it_decides_nothing(installed: Path) -> None:
    plain = own(installed, clone={"architecture": "lenet"})
    more = own(installed, clone={"architecture": "lenet", "allow_factories": ["a.b:c"]})
    assert found(plain) == found(more)


def test_clones_of_other_code_are_other_clones(installed: Path, tmp_path: Path) -> None:
    def shelf(**changes: Any) -> Path:
        _forget()
        matrix = own(installed, **changes)
        bench = Bench(matrix=matrix, defense="none", seed=0, cells=(), out=tmp_path)
        return _shelf(bench, Cell(0, "none", 40, "knockoff", "soft"), Kept(tmp_path)).path

    assert shelf() == tmp_path / "clones"
    clone = {"clone": {"architecture": "own"}}
    before = shelf(**clone)
    (installed / "own_net.py").write_text(NETWORK + "\nCHANGED = True\n")
    assert len({tmp_path / "clones", before, shelf(**clone)}) == 3
