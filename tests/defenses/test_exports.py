from __future__ import annotations

import importlib
import pkgutil

import pytest

import defenses

MODULES = [
    module.name
    for module in pkgutil.walk_packages(defenses.__path__, "defenses.")
    if not module.name.startswith("defenses.training")
]


@pytest.mark.parametrize("name", ["defenses", *MODULES])
def test_every_module_exports_a_sorted_list_of_names_that_exist(name: str) -> None:
    module = importlib.import_module(name)
    exported: list[str] = module.__all__
    # Constants first, then classes, then functions: the order that ruff keeps.
    assert exported == sorted(
        exported, key=lambda name: (not name.isupper(), not name[0].isupper(), name)
    )
    for member in exported:
        assert hasattr(module, member)


def test_a_plug_in_author_finds_the_contract_at_the_top() -> None:
    assert {"Answers", "Defense", "OptionError", "Queries", "Stage"} <= set(defenses.__all__)
