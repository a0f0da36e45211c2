"""The same matrix on Ray, on this machine; skipped where ray is not installed."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from intaglio.leakage.bench import Bench
from intaglio.leakage.errors import LeakageError
from intaglio.leakage.kept import Kept
from intaglio.leakage.measure import gather, have
from intaglio.leakage.on_ray import _work, ray_crew
from intaglio.leakage.only import Only
from tests.attack_client.conftest import Serve
from tests.attack_client.stub import LinearModel, Stub
from tests.intaglio.leakage.conftest import matrix_of


def test_a_node_that_does_not_see_the_directory_says_so(tmp_path: Path) -> None:
    bench = Bench(matrix=matrix_of(""), defense="none", seed=0, cells=(), out=tmp_path)
    with pytest.raises(LeakageError, match="give an --out that all nodes share"):
        _work(bench, str(tmp_path / "nowhere"))


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.filterwarnings("ignore")
def test_a_matrix_on_ray(
    model: LinearModel,
    serve: Serve,
    npz_root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    kept = Kept(tmp_path / "out")
    with serve(Stub(model)) as url:
        matrix = matrix_of(url, attacks={"knockoff": {"labels": ["soft"]}})
        with ray_crew(kept.out, threads=1) as crew:
            have(
                matrix,
                Only(),
                kept,
                crew,
                data_root=npz_root,
                device="cpu",
                threads=1,
                console=Console(quiet=True),
            )
    outcome = gather(matrix, kept, command=[], device="cpu")
    assert outcome.done == len(outcome.statuses) == 4
    assert not list(kept.out.glob(".shared-*"))
