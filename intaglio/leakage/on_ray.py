"""Benches as tasks of a Ray cluster, which shares one directory.

``ray`` is imported when it is asked for, and not before.
"""

from __future__ import annotations

import os
import socket
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from intaglio.leakage.bench import Bench, run_bench
from intaglio.leakage.errors import LeakageError
from intaglio.leakage.matrix import Matrix
from intaglio.leakage.runner import Crew

__all__ = ["ray_crew"]

REACH_S = 10.0
"""Seconds that a cluster's head may take to accept a connection."""


@contextmanager
def ray_crew(out: Path, *, threads: int, device: str) -> Iterator[Crew]:
    """Tasks of the cluster at ``RAY_ADDRESS``, or of a small one on this machine.

    Every node needs this program installed, and ``out`` at the same place: a shared file system.
    Relative paths mean what they mean here on each node that has this working directory as well.

    Args:
        out: the directory of the matrix.
        threads: CPUs that a task asks for.
        device: of the nodes: with ``cuda`` a task asks for a GPU as well, with ``auto`` it does if
            any node has one; whatever a bench says of itself does not count.

    Raises:
        LeakageError: ray is not installed, no cluster answers, or no node has a GPU.
    """
    try:
        import ray
    except ModuleNotFoundError as error:
        raise LeakageError("--ray needs ray: pip install 'intaglio[ray]'") from error
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    out.mkdir(parents=True, exist_ok=True)
    address = os.environ.get("RAY_ADDRESS", "")
    _require_answer(address)
    try:
        ray.init(include_dashboard=False, log_to_driver=False)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise LeakageError(f"--ray: no cluster at {address or 'this machine'}: {error}") from error
    witness = out / f".shared-{uuid.uuid4().hex}"
    try:
        on_gpu = _takes_gpus(device, ray)
        witness.touch()
        yield _Cluster(ray, witness, threads, on_gpu=on_gpu)
    finally:
        ray.shutdown()
        witness.unlink(missing_ok=True)


def _takes_gpus(device: str, ray: Any) -> bool:
    """Whether tasks ask for one of the cluster's GPUs.

    Raises:
        LeakageError: they must, and there is none: they would wait for it without end.
    """
    count = ray.cluster_resources().get("GPU", 0.0)
    if device.startswith("cuda") and count < 1:
        raise LeakageError(f"--device {device}: no node of the cluster has a GPU")
    return device != "cpu" and count >= 1


def _require_answer(address: str) -> None:
    """Refuse a cluster that is not there: Ray itself would look for it for minutes.

    Args:
        address: ``HOST:PORT`` or ``ray://HOST:PORT``; anything else is left to Ray.

    Raises:
        LeakageError: nothing listens there.
    """
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon and port.isdecimal():
        try:
            socket.create_connection((host, int(port)), timeout=REACH_S).close()
        except (OSError, OverflowError) as error:
            raise LeakageError(f"--ray: no cluster answers at {address}: {error}") from error


class _Cluster:
    def __init__(self, ray: Any, witness: Path, threads: int, *, on_gpu: bool) -> None:
        # A bench goes on where it was: a node that is lost costs the cell that it was at.
        needs = {"num_cpus": threads, "num_gpus": int(on_gpu), "max_retries": 3}
        self._task = ray.remote(**needs)(_work)
        # Ray shows a task the GPU that it is given and no other.
        self._device = "cuda:0" if on_gpu else "cpu"
        self._ray = ray
        self._witness = witness

    def submit(self, bench: Bench) -> Future[int]:
        future: Future[int] = Future()
        future.set_running_or_notify_cancel()
        bench = replace(bench, matrix=_settled(bench.matrix), device=self._device)
        reference = self._task.remote(bench, str(self._witness), str(Path.cwd()))
        threading.Thread(target=self._await, args=(reference, future), daemon=True).start()
        return future

    def _await(self, reference: Any, future: Future[int]) -> None:
        try:
            future.set_result(self._ray.get(reference))
        except Exception as error:
            cause = getattr(error, "cause", None)
            future.set_exception(cause if isinstance(cause, Exception) else error)


def _absolute(recipe: str) -> str:
    """A path, also that of a row of a file, from the root; a shipped name as it is."""
    file, slash, row = recipe.rpartition("/")
    if Path(recipe).is_file():
        return str(Path(recipe).absolute())
    return f"{Path(file).absolute()}/{row}" if slash and Path(file).is_file() else recipe


def _settled(matrix: Matrix) -> Matrix:
    """``matrix`` with the files of its victims as other directories see them."""
    victims = {
        name: entry.model_copy(
            update={
                "bundle": None if entry.bundle is None else entry.bundle.absolute(),
                "recipe": None if entry.recipe is None else _absolute(entry.recipe),
            }
        )
        for name, entry in matrix.victims.items()
    }
    return matrix.model_copy(update={"victims": victims})


def _work(bench: Bench, witness: str, home: str) -> int:
    """What a node does, in the directory ``home`` if it has that.

    Raises:
        LeakageError: it does not see the directory of the matrix.
    """
    if not Path(witness).exists():
        raise LeakageError(
            f"this node does not see {bench.out}: give an --out that all nodes share"
        )
    if Path(home).is_dir():
        os.chdir(home)  # ``npz:PATH`` and ``folder:PATH`` are told from there
    return run_bench(bench)
