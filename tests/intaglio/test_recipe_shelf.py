from __future__ import annotations

from pathlib import Path

import pytest
from torch import nn

from intaglio.demo_defenses import DEFENSES, MORE_DEFENSES
from intaglio.errors import RecipeError
from intaglio.leakage.matrix import load_matrix, shipped_matrices
from intaglio.objectives import trainable_of
from intaglio.outlook import outlook_of
from intaglio.recipe import load_recipe, shipped_recipes
from intaglio.recipe_shelf import merged

RESULTS = "docs/results.md"

TABLE = """
paper: Nobody et al. 1999
base:
  architecture: {name: cnn-small}
  data: {train: mnist}
  plan: {epochs: 7, schedule: {kind: step, every: 3}}
rows:
  plain: {reproduces: "Table 1, plain"}
  cosine:
    extends: plain
    plan: {schedule: {kind: cosine}}
  longer: {extends: cosine, plan: {epochs: 9}}
  other: {extends: digits-plain, plan: {batch_size: 5}}
  wrong: {plan: {epoch: 3}}
  circle: {extends: circle}
"""


@pytest.fixture
def table(tmp_path: Path) -> str:
    path = tmp_path / "mine.yaml"
    path.write_text(TABLE)
    return str(path)


def test_a_row_is_its_table_s_base_with_changes(table: str) -> None:
    plain = load_recipe(f"{table}/plain")
    assert plain.name == "mine-plain"
    assert plain.reproduces == "Nobody et al. 1999, Table 1, plain"
    assert plain.description == "Nobody et al. 1999, Table 1, plain."
    assert plain.plan.epochs == 7
    longer = load_recipe(f"{table}/longer")
    assert (longer.plan.epochs, longer.plan.schedule.kind) == (9, "cosine")
    assert longer.data == plain.data
    assert longer.reproduces is None  # a changed recipe reproduces nothing unless it says so


def test_what_lies_under_a_table_lies_over_a_recipe_from_elsewhere(table: str) -> None:
    own, shipped = load_recipe(f"{table}/other"), load_recipe("digits-plain")
    assert (own.data.train, own.plan.epochs, own.plan.batch_size) == ("mnist", 7, 5)
    assert own.plan.optimiser == shipped.plan.optimiser


def test_a_section_of_another_kind_starts_afresh() -> None:
    under = {"a": {"kind": "step", "every": 3}, "b": {"kind": "x", "c": {"d": 1, "e": 2}}}
    over = {"a": {"kind": "cosine"}, "b": {"c": {"d": 3}}}
    assert merged(under, over) == {
        "a": {"kind": "cosine"},
        "b": {"kind": "x", "c": {"d": 3, "e": 2}},
    }
    assert under["b"] == {"kind": "x", "c": {"d": 1, "e": 2}}


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ("wrong", "mine.yaml/wrong: plan.epoch: there is no such key; did you mean plan.epochs?"),
        ("circle", "circle: extends itself"),
        ("else", "there is no row 'else' in .*there are plain, cosine"),
        ("", "is a table: name a row, .*mine.yaml/ROW, of plain, cosine"),
    ],
)
def test_what_is_wrong_with_a_row_names_it(table: str, row: str, sentence: str) -> None:
    with pytest.raises(RecipeError, match=sentence):
        load_recipe(f"{table}/{row}" if row else table)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (("paper:", "papers:"), "papers: a table has paper, base, rows"),
        (("rows:\n", "rows: 3\nbase_:\n"), "base_: a table has|rows: must be a mapping"),
        (("wrong: {plan: {epoch: 3}}", "wrong: 3"), "rows.wrong: must be a mapping of keys"),
    ],
)
def test_a_malformed_table_is_a_sentence(
    table: str, change: tuple[str, str], sentence: str
) -> None:
    Path(table).write_text(TABLE.replace(*change))
    with pytest.raises(RecipeError, match=sentence):
        load_recipe(f"{table}/plain")


def test_a_recipe_of_one_s_own_may_extend_a_shipped_one(tmp_path: Path) -> None:
    path = tmp_path / "shorter.yaml"
    path.write_text("extends: ini-table-2/mnist-ini\nname: shorter\nplan: {epochs: 2}\n")
    ours, theirs = load_recipe(str(path)), load_recipe("ini-table-2/mnist-ini")
    assert (ours.name, ours.plan.epochs, ours.reproduces) == ("shorter", 2, None)
    assert ours.objective == theirs.objective
    path.write_text("extends: ini-table-2/mnist-ini\nplan: {epochs: 2}\n")
    with pytest.raises(RecipeError, match="name: this key is required"):
        load_recipe(str(path))
    path.write_text("extends: nothing\nname: shorter\n")
    with pytest.raises(RecipeError, match="extends: there is no recipe 'nothing'"):
        load_recipe(str(path))


def test_a_changed_recipe_says_so_and_is_not_the_measured_one() -> None:
    changed = load_recipe("ast-table-1/ast", ["plan.epochs=3", "plan.seed=2", "plan.epochs=4"])
    assert changed.reproduces is not None
    assert changed.reproduces.endswith(", but for plan.epochs, plan.seed")
    assert load_recipe("mnist-lenet").measured is not None
    assert load_recipe("mnist-lenet", ["plan.seed=1"]).measured is None
    # Nothing of a change is left in what is read once.
    assert load_recipe("ast-table-1/ast").plan.epochs == 160


PAPER_ROWS = {
    "ast-table-1": {"base", "nt", "stt", "ast", "sbase-cnn", "sbase-resnet20", "sbase-resnet32"},
    "ast-table-2": {
        "std-shufflenetv2",
        *(f"res{d}-{kind}" for d in (18, 50) for kind in ("base", "nt", "stt", "ast")),
    },
    "ast-table-4": {"alpha-0.03", "alpha-0.04", "tau-20", "tau-40"},
    "ast-table-5": {"sr-0.05", "sr-0.1", "sr-1"},
    "ast-table-6": {"kl"},
    "ini-table-2": {
        f"{data}-{kind}"
        for data in ("mnist", "fashion", "cifar10", "cifar100")
        for kind in ("vanilla", "am", "edm", "ini")
    },
    "ini-table-c1": {"adversarial-1", "adversarial-2"},
    "ini-table-5": {"isolation", "induction", "without-gradient-norm"},
    "ini-table-e2": {
        f"{data}-{kind}"
        for data in ("mnist", "fashion", "cifar10", "cifar100")
        for kind in ("vanilla", "am", "edm", "ini")
    },
    "deepdefense-table-1": {"mnist", "kmnist", "cifar10", "flowers17", "cubs200"},
    "composite": {"mentor"},
}


def test_every_row_of_the_papers_tables_has_a_recipe() -> None:
    shipped = shipped_recipes()
    for table, rows in PAPER_ROWS.items():
        assert {f"{table}/{row}" for row in rows} <= shipped.keys(), table
    for name in shipped:
        if "/" in name:
            assert load_recipe(name).reproduces, name


@pytest.mark.parametrize("name", [n for n in shipped_recipes() if "/" in n])
def test_the_options_and_the_data_of_every_row_are_right(name: str) -> None:
    recipe = load_recipe(name)
    trainable, outlook = trainable_of(recipe), outlook_of(recipe, data_root=None)
    roles = (*trainable.trained(recipe.objective), *trainable.untrained, "base", "hash")
    # Ranges of options are checked by constructors, which networks of any kind satisfy.
    objective = trainable.build({role: nn.Linear(1, 2) for role in roles}, recipe.objective)
    assert objective.kind == recipe.objective.kind
    if name.startswith(("ast-", "ini-")):  # as docs/training.md says
        assert (recipe.data.validation_fraction, recipe.plan.selection) == (0.05, "last")
    assert outlook.flops is not None
    assert 1e12 < outlook.flops < 1e18
    if trainable.base:
        table = name.rpartition("/")[0]
        assert recipe.objective.base is not None
        bases = [load_recipe(f"{t}/{row}") for t in PAPER_ROWS for row in PAPER_ROWS[t]
                 if f"{t}-{row}" == recipe.objective.base]  # fmt: skip
        assert len(bases) == 1, table
        assert bases[0].architecture == recipe.architecture
        assert bases[0].data == recipe.data
        assert bases[0].normalisation == recipe.normalisation


def test_recipes_that_our_tables_are_made_with_say_so() -> None:
    run = {bundle for bundle, _ in (*DEFENSES.values(), *MORE_DEFENSES.values())}
    for matrix in map(load_matrix, shipped_matrices()):
        for victim in matrix.victims.values():
            # With another training set it is another recipe.
            if not any(change.startswith("data.train=") for change in victim.set):
                assert victim.recipe is not None
                run.add(victim.recipe)
    assert {"digits-ast", "mnist-lenet-oe"} <= run
    assert {name: load_recipe(name).measured for name in run} == dict.fromkeys(run, RESULTS)
    assert (Path(__file__).parents[2] / RESULTS).is_file()


def test_settings_are_those_that_the_papers_print() -> None:
    ast = load_recipe("ast-table-2/res50-ast")
    assert ast.objective.options == {
        "alpha": 0.03, "tau": 30.0, "sparsity": 0.07, "loss": "epd", "target": "base",
    }  # fmt: skip
    assert ast.plan.epochs == 200
    assert load_recipe("ast-table-5/sr-1").objective.options["sparsity"] == 1.0
    nasty = load_recipe("ast-table-1/nt-paper").objective.options
    assert nasty == {"omega": 0.004, "tau": 4.0}
    ini = load_recipe("ini-table-2/cifar10-ini").plan
    assert (ini.epochs, ini.combiner) == (150, "pcgrad")
    assert ini.optimiser.model_dump() == {
        "kind": "sgd", "lr": 0.1, "momentum": 0.5, "nesterov": False, "weight_decay": 0.001,
    }  # fmt: skip
    assert load_recipe("ini-table-2/cifar10-vanilla").plan.optimiser.weight_decay == 0.0005
    assert load_recipe("ini-table-e2/mnist-am").plan.epochs == 20
