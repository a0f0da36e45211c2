"""What honest queries cost on the command line: each once, also after a kill, or none at all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from attack_client.report import read_json
from tests.attack_client.conftest import Serve
from tests.attack_client.stub import Fault, LinearModel, Stub
from tests.attack_client.test_cli import knockoff, run, sentence

HONEST = 100 + 5 + 3
"""Test images, warm-up, and what is timed."""


def incomplete(result: Result) -> str:
    assert result.exit_code == 1, result.output
    return " ".join(result.stderr.split())


def life(stub: Stub, limit: int) -> Callable[[], dict[str, Any]]:
    return lambda: {"lifetime": {"used": stub.samples, "limit": limit}}


def day(stub: Stub, limit: int) -> Callable[[], dict[str, Any]]:
    today = {"limit": limit, "resets_at": "2030-01-01"}
    return lambda: {"today": {**today, "used": stub.samples}}


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
        assert "403" in incomplete(run(command))
        begun = [key for key, _ in stub.honest]
        assert run([*command, "--resume"]).exit_code == 0
        again = [key for key, _ in stub.honest][len(begun) :]
    assert begun
    assert set(begun) <= set(again)
    assert len(again) == len(set(again))


BUSY = Fault(429, headers=(("retry-after", "0"),))


def disturbed(model: LinearModel) -> Stub:
    """A victim that is busy at the first timed request of a campaign."""
    stub = Stub(model)
    stub.faults.extend([*[None] * (1 + 2 + 5), BUSY])
    return stub


def test_a_latency_that_cannot_be_told_is_said_to_be_none(
    model: LinearModel, serve: Serve, npz_root: Path, tmp_path: Path
) -> None:
    stub = disturbed(model)
    with serve(stub) as url:
        result = run(knockoff(url, npz_root, tmp_path / "run", "--budget", "40"))
    assert result.exit_code == 0, result.output
    assert "no latency is reported: 1 single-image requests" in " ".join(result.stdout.split())
    [row] = read_json(tmp_path / "run" / "report.json").rows
    assert (row.latency_p50_ms, row.benign_accuracy) == (None, 1.0)


def test_a_latency_that_could_not_be_told_is_measured_by_a_later_command(
    model: LinearModel, serve: Serve, npz_root: Path, tmp_path: Path
) -> None:
    stub = disturbed(model)
    with serve(stub) as url:
        command = knockoff(url, npz_root, tmp_path / "run", "--budget", "40")
        assert run(command).exit_code == 0
        [before] = read_json(tmp_path / "run" / "report.json").rows
        asked = stub.samples
        stub.usage = life(stub, asked + 5 + 3 - 1)
        lacking = run([*command, "--resume"])
        assert lacking.exit_code == 0, lacking.output
        said = " ".join(lacking.stdout.split())
        assert "no latency is reported: the key may ask 7 samples more" in said
        stub.usage = None
        stub.faults.extend([*[None] * 5, BUSY])
        again = run([*command, "--resume"])
        assert "no latency is reported: 1 single-image requests" in " ".join(again.stdout.split())
        spent = stub.samples
        assert spent <= asked + 5 + 3, "the test set is not asked about again"
        done = run([*command, "--resume", "--labels", "hard"])
        assert done.exit_code == 0, done.output
        assert "no latency" not in done.stdout
        assert stub.samples == spent + 5 + 3
        assert run([*command, "--resume"]).exit_code == 0
        assert stub.samples == spent + 5 + 3, "and once it is known it is kept"
    soft, hard = read_json(tmp_path / "run" / "report.json").rows
    assert hard.latency_p50_ms is not None
    assert soft.latency_p50_ms == hard.latency_p50_ms
    assert soft.benign_accuracy == before.benign_accuracy == 1.0
    assert soft.evaluation_queries == hard.evaluation_queries == stub.samples - 40


def test_a_latency_that_nobody_answers_leaves_a_report_as_it_was(
    model: LinearModel, serve: Serve, npz_root: Path, tmp_path: Path
) -> None:
    stub = disturbed(model)
    with serve(stub) as url:
        command = knockoff(url, npz_root, tmp_path / "run", "--budget", "40")
        assert run(command).exit_code == 0
        before = read_json(tmp_path / "run" / "report.json").rows
        stub.faults.append(Fault(403))
        result = run([*command, "--resume"])
    assert result.exit_code == 0, result.output
    assert "no latency is reported: " in result.stdout
    assert "403" in result.stdout
    [row] = read_json(tmp_path / "run" / "report.json").rows
    assert row.benign_accuracy == before[0].benign_accuracy == 1.0


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


@pytest.mark.parametrize("flags", [(), ("--operator-key", "thief")])
def test_a_key_that_can_never_pay_for_them_too_begins_no_theft(
    model: LinearModel, serve: Serve, npz_root: Path, tmp_path: Path, flags: tuple[str, ...]
) -> None:
    stub = Stub(model, key="thief")
    stub.usage = life(stub, 40 + HONEST - 1)
    theft = knockoff("", npz_root, tmp_path / "run", "--budget", "40", "--api-key", "thief", *flags)
    with serve(stub) as url:
        theft[theft.index("--url") + 1] = url
        said = sentence(run(theft))
        assert (
            "the key has 147 samples left and will have no more, but the theft takes 40 and" in said
        )
        assert "honest queries take 108 (100 test images, 8 single ones for the latency)" in said
        assert "--operator-key" in said
        assert "--no-honest" in said
        assert not stub.requests
        stub.usage = life(stub, 40 + HONEST)
        done = run(theft)
    assert done.exit_code == 0, done.output
    assert stub.samples == 40 + HONEST


def test_of_a_theft_that_goes_on_only_what_is_left_counts(
    model: LinearModel, serve: Serve, npz_root: Path, tmp_path: Path
) -> None:
    stub = Stub(model)
    with serve(stub) as url:
        command = knockoff(url, npz_root, tmp_path / "run")
        assert run([*command, "--budget", "40", "--no-honest"]).exit_code == 0
        stub.usage = life(stub, 40 + 20 + HONEST)
        more = [*command, "--resume", "--budget"]
        assert "the theft takes 21" in sentence(run([*more, "61"]))
        done = run([*more, "60"])
    assert done.exit_code == 0, done.output


def test_an_operators_own_key_bears_its_own_queries_alone(
    model: LinearModel, serve: Serve, npz_root: Path, tmp_path: Path
) -> None:
    stub = Stub(model)
    stub.usage = life(stub, HONEST - 1)
    with serve(stub) as url:
        command = knockoff(url, npz_root, tmp_path / "run", "--budget", "40")
        said = sentence(run([*command, "--operator-key", "other"]))
        assert "the operator's key has 107 samples left and will have no more" in said
        assert "the theft" not in said
        stub.usage = day(stub, HONEST - 1)
        assert "may ask 107 samples a day" in sentence(run([*command, "--operator-key", "other"]))
        assert not stub.requests
        assert run([*command, "--no-honest"]).exit_code == 0


def test_what_a_day_does_not_bear_is_measured_on_another(
    model: LinearModel, serve: Serve, npz_root: Path, tmp_path: Path
) -> None:
    stub = Stub(model)
    stub.usage = day(stub, 120)
    with serve(stub) as url:
        command = knockoff(url, npz_root, tmp_path / "run", "--budget", "40")
        first = run(command)
        said = " ".join(first.stdout.split())
        assert "may ask 120 samples more today" in said
        assert "can be had from 2030-01-01 with --resume" in said
        assert "80 samples more (more from 2030-01-01), and honest queries take 108" in incomplete(
            first
        )
        assert stub.samples == 40, "nothing is asked whose answers would be lost"
        [row] = read_json(tmp_path / "run" / "report.json").rows
        assert row.benign_accuracy is None
        stub.usage = None
        assert run([*command, "--resume"]).exit_code == 0
    [row] = read_json(tmp_path / "run" / "report.json").rows
    assert row.benign_accuracy == 1.0
    assert stub.samples == 40 + HONEST


def test_what_an_earlier_command_paid_for_is_not_counted_again(
    model: LinearModel, serve: Serve, npz_root: Path, tmp_path: Path
) -> None:
    stub = Stub(model, idempotent=True)
    stub.usage = life(stub, 40 + HONEST)
    stub.faults.extend([None, None, None, Fault(403)])
    with serve(stub) as url:
        command = knockoff(url, npz_root, tmp_path / "run", "--budget", "40", "--concurrency", "1")
        assert "403" in incomplete(run(command))
        assert stub.samples > 40, "a part of them was paid for"
        done = run([*command, "--resume"])
    assert done.exit_code == 0, done.output
    said = " ".join(done.stdout.split())
    assert "and honest queries take 108: they are tried" in said
    assert stub.samples == 40 + HONEST
    [row] = read_json(tmp_path / "run" / "report.json").rows
    assert row.benign_accuracy == 1.0


def test_a_key_that_cannot_pay_for_them_does_no_harm_to_a_theft_that_is_done(
    model: LinearModel, serve: Serve, npz_root: Path, tmp_path: Path
) -> None:
    stub = Stub(model)
    with serve(stub) as url:
        command = knockoff(url, npz_root, tmp_path / "run", "--budget", "40")
        assert run([*command, "--no-honest"]).exit_code == 0
        stub.usage = life(stub, 40)
        stub.faults.append(Fault(403))
        result = run([*command, "--resume"])
    assert "the report in" in incomplete(result)
    assert "0 samples more (no more will come)" in " ".join(result.stdout.split())
    [row] = read_json(tmp_path / "run" / "report.json").rows
    assert row.benign_accuracy is None


def test_a_theft_is_not_lost_with_the_honest_queries(
    model: LinearModel, serve: Serve, npz_root: Path, tmp_path: Path
) -> None:
    stub = Stub(model)
    stub.faults.extend([None, Fault(403)])
    with serve(stub) as url:
        command = knockoff(url, npz_root, tmp_path / "run", "--budget", "40,20")
        result = run([*command, "--labels", "soft,hard"])
    said = incomplete(result)
    assert "answered 403: no" in said
    assert "the report in" in said
    assert "--resume" in said
    assert "knockoff" in result.stdout, "the table is shown"
    rows = read_json(tmp_path / "run" / "report.json").rows
    assert len(rows) == 4
    assert {(row.benign_accuracy, row.evaluation_queries) for row in rows} == {(None, 0)}
    for name in ("report.md", "report.html", "curves.png"):
        assert (tmp_path / "run" / name).exists()
