"""Whole runs against a stub: resumed cell by cell, killed anywhere, failures told."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import numpy as np
import pytest
import yaml
from rich.console import Console

from intaglio.leakage.bench import Bench, _train
from intaglio.leakage.cells import cells_of
from intaglio.leakage.kept import Kept
from intaglio.leakage.matrix import Matrix
from intaglio.leakage.measure import gather, have
from intaglio.leakage.only import Only
from intaglio.leakage.runner import benches_of, local_crew
from intaglio.leakage.target import PATIENCE_S, Target
from intaglio.leakage.written import Outcome, write_outcome
from models.bundle import read_card
from tests.attack_client.conftest import Serve
from tests.attack_client.stub import Fault, LinearModel, Stub
from tests.attack_client.test_cli import plain_bundle
from tests.intaglio.leakage.conftest import Inline, matrix_of


def run(matrix: Matrix, out: Path, root: Path, crew: Inline | None = None) -> Outcome:
    kept = Kept(out)
    have(
        matrix,
        Only(),
        kept,
        crew or Inline(),
        data_root=root,
        device="cpu",
        threads=1,
        console=Console(quiet=True),
    )
    return gather(matrix, kept, command=["intaglio", "leakage"], device="cpu")


def test_a_matrix_is_measured_once_and_changed_cells_again(
    model: LinearModel, serve: Serve, npz_root: Path, tmp_path: Path
) -> None:
    stub = Stub(model)
    with serve(stub) as url:
        matrix = matrix_of(url)
        outcome = run(matrix, tmp_path, npz_root)
        assert [status.state for status in outcome.statuses] == ["done"] * 8
        honest = 2 * (100 + 5 + 2)
        assert stub.samples == 2 * 40 + honest, "budgets are prefixes, hard labels are free"
        assert len(list((tmp_path / "clones").glob("*.safetensors"))) == 4, "equal clones are one"

        again = run(matrix.model_copy(update={"price_per_thousand": 2.0}), tmp_path, npz_root)
        assert stub.samples == 2 * 40 + honest
        assert {(row.budget, row.cost) for row in again.rows} == {(20, 0.04), (40, 0.08)}
        assert {row.cost for row in outcome.rows} == {None}

        changed = matrix.model_copy(
            update={
                "attacks": {
                    **matrix.attacks,
                    "more": matrix.attacks["knockoff"].model_copy(
                        update={"attack": "knockoff", "augment": "shift", "budgets": (60,)}
                    ),
                }
            }
        )
        outcome = run(changed, tmp_path, npz_root)
        assert stub.samples == 2 * 60 + honest, "the theft is extended, honest callers not asked"
    assert outcome.done == 12
    assert {row.attack for row in outcome.rows} == {"knockoff", "more"}


def test_a_latency_that_could_not_be_told_is_said_and_measured_with_the_next_cell(
    model: LinearModel, serve: Serve, npz_root: Path, tmp_path: Path
) -> None:
    stub = Stub(model)
    busy = Fault(429, headers=(("retry-after", "0"),))
    stub.faults.extend([*[None] * (13 + 5), busy])  # the test set in batches of 8, a warm-up
    told = "There is no latency of none"
    with serve(stub) as url:
        matrix = matrix_of(url, defenses={"none": {"url": url, "model": "toy"}})
        outcome = run(matrix, tmp_path, npz_root)
        write_outcome(outcome, tmp_path)
        assert told in (tmp_path / "report.md").read_text()
        assert told in (tmp_path / "report.html").read_text()
        assert (outcome.lines[0].latency_p50_ms, outcome.lines[0].benign_l1) == (None, None)
        more = {
            **matrix.attacks,
            "more": matrix.attacks["knockoff"].model_copy(
                update={"attack": "knockoff", "augment": "shift"}
            ),
        }
        stub.faults.extend([Fault(403)])
        matrix = matrix.model_copy(update={"attacks": more, "budgets": (20,)})
        assert run(matrix, tmp_path, npz_root).lines[0].latency_p50_ms is None
        spent = stub.samples
        matrix = matrix.model_copy(update={"budgets": (20, 30, 40)})
        outcome = run(matrix, tmp_path, npz_root)
        assert stub.samples - spent == 5 + 2, "the test set is not asked about again"
        write_outcome(outcome, tmp_path)
    assert outcome.done == len(outcome.statuses)
    assert outcome.lines[0].latency_p50_ms is not None
    assert told not in (tmp_path / "report.md").read_text()


def test_a_run_stopped_between_cells_goes_on(
    model: LinearModel, serve: Serve, npz_root: Path, tmp_path: Path
) -> None:
    def stop(bench: Bench) -> None:
        if bench.defense == "label-only":
            raise KeyboardInterrupt

    stub = Stub(model)
    with serve(stub) as url:
        matrix = matrix_of(url)
        with pytest.raises(KeyboardInterrupt):
            run(matrix, tmp_path, npz_root, Inline(before=stop))
        half = gather(matrix, Kept(tmp_path), command=[], device="cpu")
        # Their digests are of the target, and both defenses of this matrix name the same one.
        assert {(s.defense, s.state) for s in half.statuses} == {
            ("none", "done"),
            ("label-only", "missing"),
        }
        assert half.statuses[-1].reason == "not run yet"
        whole = run(matrix, tmp_path, npz_root)
    assert whole.done == len(whole.statuses)


def test_a_server_that_is_full_for_a_while_loses_no_cell(
    model: LinearModel,
    serve: Serve,
    npz_root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Target, "patience_s", PATIENCE_S)  # as if it were ours
    stub = Stub(model)
    # More often than a request is tried where a person stands beside it, of every request.
    full = Fault(status=503, headers=(("Retry-After", "0"),))
    stub.faults.extend([full] * 60)
    with serve(stub) as url:
        matrix = matrix_of(url, defenses={"none": {"url": url, "model": "toy"}}, budgets=[20])
        outcome = run(matrix, tmp_path, npz_root)
    assert {status.state for status in outcome.statuses} == {"done"}
    assert not stub.faults


def test_no_cell_is_waited_for_once_our_server_has_ended(
    model: LinearModel,
    serve: Serve,
    npz_root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stub = Stub(model)
    # Gone after the first cell of each defense.
    asked = iter([False, True] * 2)
    monkeypatch.setattr(Target, "gone", property(lambda _: next(asked)))
    with serve(stub) as url:
        outcome = run(matrix_of(url), tmp_path, npz_root)
    states = [status.state for status in outcome.statuses]
    assert (states.count("done"), states.count("failed")) == (2, 6)
    assert {status.reason for status in outcome.statuses if status.state == "failed"} == {
        f"the server of {name}, seed 0 ended, see its server.log" for name in ("none", "label-only")
    }


def test_what_cannot_be_had_says_why_and_the_rest_goes_on(
    model: LinearModel, serve: Serve, npz_root: Path, tmp_path: Path
) -> None:
    with serve(Stub(model)) as url:
        matrix = matrix_of(
            url,
            defenses={
                "none": {"url": url, "model": "toy"},
                "keyed": {"url": url, "model": "toy", "key_env": "NOBODY_SET_THIS"},
                "gone": {"url": url, "model": "lost"},
            },
            attacks={"knockoff": {"budgets": [20, 5000], "labels": ["soft"]}},
        )
        outcome = run(matrix, tmp_path, npz_root)
        reasons = {(s.defense, s.budget): s.reason for s in outcome.statuses}
        assert reasons["none", 20] is None
        assert "the pool" in str(reasons["none", 5000]) or "pool noise" in str(
            reasons["none", 5000]
        )
        assert "set NOBODY_SET_THIS" in str(reasons["keyed", 20])
        assert "404" in str(reasons["gone", 20])
        write_outcome(outcome, tmp_path)
        page = (tmp_path / "report.html").read_text()
        assert "What each name serves" in page
        assert "set NOBODY_SET_THIS" in page
        assert "http" not in page.replace(url, "")
        assert "- gone, knockoff, soft, 20, seed 0: " in (tmp_path / "report.md").read_text()
        document = json.loads((tmp_path / "report.json").read_text())
    assert document["schema"] == 1
    assert len(document["rows"]) == 1
    assert [cell["state"] for cell in document["leakage"]["cells"]].count("failed") == 5


def command(path: Path, out: Path, root: Path, *more: str) -> list[str]:
    return [
        *(sys.executable, "-c", "from intaglio.cli import main; main()", "leakage", str(path)),
        *("--out", str(out), "--data-root", str(root), "--device", "cpu", "--jobs", "2", *more),
    ]


def runs(pid: int) -> bool:
    """Whether there is such a process, and not only what is left of it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def children_of(pid: int) -> list[int]:
    """Processes that it started, and those that they did."""
    found, stats = [pid], [path / "stat" for path in Path("/proc").iterdir() if path.name.isdigit()]
    parents = {}
    for stat in stats:
        with contextlib.suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            if fields[0] != "Z":
                parents[int(stat.parent.name)] = int(fields[1])
    for parent in found:
        found += [child for child, of in parents.items() if of == parent]
    return found[1:]


@pytest.mark.timeout(120)
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_nobody_works_on_when_the_command_has_ended(
    how: signal.Signals, model: LinearModel, serve: Serve, npz_root: Path, tmp_path: Path
) -> None:
    stub, path = Stub(model, idempotent=True, delay_s=0.2), tmp_path / "matrix.yaml"
    with serve(stub) as url:
        # More benches than processes: some wait in the queue of a process that is told to end.
        target = {"url": url, "model": "toy"}
        defenses = dict.fromkeys(("none", "a", "b", "c", "d", "e"), target)
        matrix = matrix_of(url, budgets=[200], batch=4, defenses=defenses, latency_requests=0)
        path.write_text(yaml.safe_dump(matrix.model_dump(mode="json", exclude_defaults=True)))
        started = subprocess.Popen(
            command(path, tmp_path / "out", npz_root),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        while stub.samples < 120:
            assert started.poll() is None
            time.sleep(0.02)
        crew = children_of(started.pid)
        assert len(crew) >= 2
        started.send_signal(how)
        started.wait()
        while any(map(runs, crew)):
            time.sleep(0.1)
        time.sleep(5 * stub.delay_s)  # what was in flight arrives
        asked = stub.samples
        time.sleep(5 * stub.delay_s)
        assert stub.samples == asked


@pytest.mark.timeout(300)
def test_a_process_that_is_killed_costs_its_own_server_only(
    model: LinearModel, serve: Serve, npz_root: Path, tmp_path: Path
) -> None:
    stub, kept = Stub(model, idempotent=True, delay_s=0.2), Kept(tmp_path)
    with serve(stub) as url:
        matrix = matrix_of(url, batch=4, latency_requests=0)
        benches = benches_of(
            matrix, cells_of(matrix), kept, data_root=npz_root, device="cpu", threads=1
        )
        with local_crew(1) as crew:
            first, second = map(crew.submit, benches)
            while stub.samples < 40:
                assert not first.done()
                time.sleep(0.02)
            (worker,) = multiprocessing.active_children()
            assert worker.pid is not None
            os.kill(worker.pid, signal.SIGKILL)
            with pytest.raises(BrokenProcessPool):
                first.result()
            stub.delay_s = 0.0
            assert second.result() == 0
    states = {(s.defense, s.state) for s in gather(matrix, kept, command=[], device="cpu").statuses}
    assert ("label-only", "done") in states
    assert ("label-only", "missing") not in states


def test_a_cell_that_fails_as_nobody_foresaw_does_not_take_the_others_with_it(
    model: LinearModel,
    serve: Serve,
    npz_root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def study(name: str, attack: object, defense: object) -> None:
        if name == "odd":
            raise RuntimeError("of all things")

    monkeypatch.setattr("intaglio.leakage.bench.study_of", study)
    with serve(Stub(model)) as url:
        attacks = {"odd": {"attack": "knockoff", "labels": ["soft"]}, "knockoff": {}}
        outcome = run(matrix_of(url, budgets=[20], attacks=attacks), tmp_path, npz_root)
    reasons = {(s.defense, s.attack, s.labels): s.reason for s in outcome.statuses}
    assert "RuntimeError at test_run.py" in str(reasons["none", "odd", "soft"])
    assert "of all things" in str(reasons["none", "odd", "soft"])
    assert reasons["none", "knockoff", "soft"] is None


@pytest.mark.timeout(300)
def test_kill_9_anywhere_and_the_same_command_goes_on(
    model: LinearModel, serve: Serve, npz_root: Path, tmp_path: Path
) -> None:
    stub = Stub(model, idempotent=True, delay_s=0.2)
    out, path, junit = tmp_path / "out", tmp_path / "matrix.yaml", tmp_path / "junit.xml"
    with serve(stub) as url:
        matrix = matrix_of(url, budgets=[24, 200], batch=4, concurrency=2, latency_requests=0)
        path.write_text(yaml.safe_dump(matrix.model_dump(mode="json", exclude_defaults=True)))
        killed = subprocess.Popen(
            command(path, out, npz_root),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        deadline = time.monotonic() + 120
        while stub.samples < 2 * 100 + 60 and time.monotonic() < deadline:
            assert killed.poll() is None
            time.sleep(0.02)
        os.killpg(killed.pid, signal.SIGKILL)
        killed.wait()
        stub.delay_s = 0.0
        again = subprocess.run(
            command(path, out, npz_root, "--fail-above", "0.0", "--junit", str(junit)),
            capture_output=True,
            text=True,
            check=False,
        )
    assert "8 of 8 cells are done." in again.stdout, again.stdout + again.stderr
    said = json.loads((out / "report.json").read_text())["command"]
    assert said == ["intaglio", "leakage", str(path), "--fail-above", "0", "--jobs", "2"]
    # Nothing but yardsticks, so nothing is gated.
    assert again.returncode == 0
    assert junit.is_file()
    asked = {key: len(digests) for key, digests in stub.thefts}
    assert sum(asked.values()) == 2 * 200, "no query of a theft was paid for twice"
    for name in ("report.json", "report.md", "report.html", "heat-map.png"):
        assert (out / name).stat().st_size > 500


def test_no_cell_is_measured_with_labels_in_another_order(
    model: LinearModel, serve: Serve, npz_root: Path, tmp_path: Path
) -> None:
    bundle = plain_bundle(tmp_path / "bundles", model)
    with np.load(npz_root / "task.npz") as arrays:
        named = {**arrays, "class_names": np.array(sorted(read_card(bundle).labels, reverse=True))}
    np.savez(npz_root / "task.npz", **named)
    stub = Stub(model)
    with serve(stub) as url:
        matrix = matrix_of(url, victims={"plain": {"bundle": str(bundle)}}, reference="plain")
        outcome = run(matrix, tmp_path / "out", npz_root)
    assert {status.state for status in outcome.statuses} == {"failed"}
    assert "task has the labels of plain in another order" in str(outcome.statuses[0].reason)
    assert not stub.requests


def test_nobody_is_told_that_finished_weights_are_trained(
    model: LinearModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    victims = {"plain": {"bundle": str(plain_bundle(tmp_path / "bundles", model))}}
    matrix = matrix_of("http://victim", victims=victims, reference="plain")
    bench = Bench(matrix=matrix, defense="none", seed=0, cells=(), out=tmp_path)
    told: list[str | None] = []
    monkeypatch.setattr(Kept, "tell", lambda _, __, stage: told.append(stage))
    _train(bench, ["knockoff"], Kept(tmp_path))
    assert told == []
