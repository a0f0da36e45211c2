"""What honest queries cost on the command line: each once, also after a kill, or none at all."""

from __future__ import annotations

from pathlib import Path

from attack_client.report import read_json
from tests.attack_client.conftest import Serve
from tests.attack_client.stub import Fault, LinearModel, Stub
from tests.attack_client.test_cli import knockoff, run, sentence


def test_an_honest_batch_that_is_sent_again_is_one_request(
    model: LinearModel, serve: Serve, npz_root: Path, tmp_path: Path
) -> None:
    stub = Stub(model)
    with serve(stub) as url:
        done = run(knockoff(url, npz_root, tmp_path / "run", "--budget", "40"))
    assert done.exit_code == 0, done.output
    keys = [key for key, _ in stub.honest]
    assert keys.count(None) == 5 + 3  # warm-up, and what is timed
    assert len(set(keys)) == len(keys) - 7 == 3


def test_honest_batches_of_a_run_that_was_killed_keep_their_keys(
    model: LinearModel, serve: Serve, npz_root: Path, tmp_path: Path
) -> None:
    stub = Stub(model)
    stub.faults.extend([None, None, Fault(403)])
    theft = ["--budget", "40", "--concurrency", "1", "--latency-requests", "0"]
    with serve(stub) as url:
        command = knockoff(url, npz_root, tmp_path / "run", *theft)
        assert "403" in sentence(run(command))
        begun = [key for key, _ in stub.honest]
        assert run([*command, "--resume"]).exit_code == 0
        again = [key for key, _ in stub.honest][len(begun) :]
    assert begun
    assert set(begun) <= set(again)
    assert len(again) == len(set(again))


def test_honest_queries_can_be_left_out(
    model: LinearModel, serve: Serve, npz_root: Path, tmp_path: Path
) -> None:
    stub = Stub(model)
    with serve(stub) as url:
        result = run(knockoff(url, npz_root, tmp_path / "run", "--budget", "40", "--no-honest"))
    assert result.exit_code == 0, result.output
    assert stub.samples == 40
    row = read_json(tmp_path / "run" / "report.json").rows[0]
    assert (row.benign_accuracy, row.fidelity_served, row.evaluation_queries) == (None, None, 0)
    assert "honest queries" not in (tmp_path / "run" / "report.md").read_text()
