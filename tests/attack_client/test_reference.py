"""A plain model is measured on a test set that numbers its classes as it does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from attack_client.errors import PoolError
from attack_client.reference import check_labels
from models.bundle import read_card
from tests.attack_client.conftest import Serve
from tests.attack_client.stub import LinearModel, Stub
from tests.attack_client.test_cli import knockoff, plain_bundle, run, sentence
from tests.models.builders import edit_card, tiny_bundle


@pytest.mark.parametrize(
    ("labels", "sentence"),
    [
        ("acb", "npz:x has the labels of toy in another order: class 1 is 'c' in the one, 'b' in"),
        (
            "abd",
            "npz:x has other labels than toy: class 2 is 'd' in the one, 'c' in the other; if ",
        ),
        ("abcd", "npz:x has other labels than toy: 4 in the one, 3 in the other"),
    ],
)
def test_other_names_are_refused(tmp_path: Path, labels: str, sentence: str) -> None:
    with pytest.raises(PoolError, match=sentence):
        check_labels(read_card(tiny_bundle(tmp_path)), tuple(labels), test="npz:x")


def test_numbers_in_another_order_are_names(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path)
    edit_card(bundle, lambda card: card.update(labels=["0", "1", "2"]))
    with pytest.raises(PoolError, match="in another order: class 1 is '2' in the one, '1' in"):
        check_labels(read_card(bundle), ("0", "2", "1"), test="npz:x")


@pytest.mark.parametrize(
    ("known", "labels"),
    [("abc", "abc"), ("abc", "012"), ("012", "abc"), ("abc", ["A", " b", "C"])],
)
def test_numbers_say_nothing_of_names(
    tmp_path: Path, known: Sequence[str], labels: Sequence[str]
) -> None:
    bundle = tiny_bundle(tmp_path)
    edit_card(bundle, lambda card: card.update(labels=list(known)))
    check_labels(read_card(bundle), labels, test="npz:x")


def test_an_attack_is_refused_before_it_asks(
    model: LinearModel, serve: Serve, npz_root: Path, tmp_path: Path
) -> None:
    bundle = plain_bundle(tmp_path / "bundles", model)
    names = sorted(read_card(bundle).labels, reverse=True)
    with np.load(npz_root / "task.npz") as arrays:
        np.savez(tmp_path / "named.npz", **arrays, class_names=np.array(names))
    stub = Stub(model)
    with serve(stub) as url:
        more = ("--budget", "40", "--reference", str(bundle))
        arguments = knockoff(url, npz_root, tmp_path / "run", *more)
        test = f"npz:{tmp_path / 'named.npz'}"
        refused = sentence(run([*arguments, "--test", test]))
    assert f"{test} has the labels of plain in another order: class 0 is 'e' in the one" in refused
    assert not stub.requests
