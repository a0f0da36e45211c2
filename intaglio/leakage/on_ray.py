"""Benches as tasks of a Ray cluster, which shares one directory.

``ray`` is imported when it is asked for, and not before.
"""

from __future__ import annotations

import os
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from intaglio.leakage.bench import Bench, run_bench
from intaglio.leakage.errors import LeakageError
from intaglio.leakage.runner import Crew

__all__ = ["ray_crew"]


@contextmanager
def ray_crew(out: Path, *, threads: int) -> Iterator[Crew]:
    """Tasks of the cluster at ``RAY_ADDRESS``, or of a small one on this machine.

    Every node needs this program installed, and ``out`` at the same place: a shared file system.

    Args:
        out: the directory of the matrix.
        threads: CPUs that a task asks for.

    Raises:
        LeakageError: ray is not installed.
    """
    try:
        import ray
    except ModuleNotFoundError as error:
        raise LeakageError("--ray needs ray: pip install 'intaglio[ray]'") from error
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    out.mkdir(parents=True, exist_ok=True)
    witness = out / f".shared-{uuid.uuid4().hex}"
    witness.touch()
    ray.init(include_dashboard=False, log_to_driver=False)
    try:
        yield _Cluster(ray, witness, threads)
    finally:
        ray.shutdown()
        witness.unlink(missing_ok=True)


class _Cluster:
    def __init__(self, ray: Any, witness: Path, threads: int) -> None:
        # A bench goes on where it was: a node that is lost costs the cell that it was at.
        self._task = ray.remote(num_cpus=threads, max_retries=3)(_work)
        self._ray = ray
        self._witness = witness

    def submit(self, bench: Bench) -> Future[int]:
        future: Future[int] = Future()
        future.set_running_or_notify_cancel()
        reference = self._task.remote(bench, str(self._witness))
        threading.Thread(target=self._await, args=(reference, future), daemon=True).start()
        return future

    def _await(self, reference: Any, future: Future[int]) -> None:
        try:
            future.set_result(self._ray.get(reference))
        except Exception as error:
            cause = getattr(error, "cause", None)
            future.set_exception(cause if isinstance(cause, Exception) else error)


def _work(bench: Bench, witness: str) -> int:
    """What a node does.

    Raises:
        LeakageError: it does not see the directory of the matrix.
    """
    if not Path(witness).exists():
        raise LeakageError(
            f"this node does not see {bench.out}: give an --out that all nodes share"
        )
    return run_bench(bench)
