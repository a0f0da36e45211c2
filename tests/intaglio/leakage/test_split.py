"""No victim of a matrix is tested on images that it was trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from intaglio.leakage.bench import Bench, _split_seed
from intaglio.leakage.errors import LeakageError
from intaglio.leakage.kept import Kept
from tests.attack_client.stub import LinearModel
from tests.attack_client.test_cli import plain_bundle
from tests.intaglio.leakage.conftest import matrix_of


def split_seed(root: Path, model: LinearModel, **changes: Any) -> int:
    bundles = {
        f"split-{seed}": {"bundle": str(plain_bundle(root / f"{seed}", model, split_seed=seed))}
        for seed in (0, 3)
    }
    elsewhere = plain_bundle(root / "elsewhere", model, data="noise", split_seed=9)
    matrix = matrix_of(
        "http://victim",
        victims={**bundles, "elsewhere": {"bundle": str(elsewhere)}},
        **changes,
    )
    bench = Bench(matrix=matrix, defense="own", seed=0, cells=(), out=root)
    return _split_seed(bench, Kept(root))


@pytest.mark.parametrize(
    ("attacked", "reference", "expected"),
    [
        ("split-3", None, 3),
        ("split-3", "split-3", 3),
        ("elsewhere", "split-3", 3),
        ("elsewhere", None, 0),
    ],
)
def test_the_split_is_that_of_the_victims(
    tmp_path: Path, model: LinearModel, attacked: str, reference: str | None, expected: int
) -> None:
    given = {"defenses": {"own": {"victim": attacked}}, "reference": reference}
    assert split_seed(tmp_path, model, **given) == expected


def test_two_splits_are_refused(tmp_path: Path, model: LinearModel) -> None:
    given = {"defenses": {"own": {"victim": "split-0"}}, "reference": "split-3"}
    with pytest.raises(LeakageError, match="split-3 by 3 and split-0 by 0: one would be tested"):
        split_seed(tmp_path, model, **given)
