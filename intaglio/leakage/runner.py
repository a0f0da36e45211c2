"""Benches one after another, side by side, or on a Ray cluster; and how far all that is."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import (
    FIRST_COMPLETED,
    CancelledError,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
    wait,
)
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from intaglio.leakage.bench import Bench, run_bench
from intaglio.leakage.cells import Cell, digest
from intaglio.leakage.kept import Kept
from intaglio.leakage.matrix import Matrix
from models.training.progress import StatusColumn

__all__ = ["Crew", "benches_of", "local_crew", "run_benches"]

LOOK_S = 0.5
"""Seconds between looks at what is done."""


class Crew(Protocol):
    """Where benches are worked on."""

    def submit(self, bench: Bench) -> Future[int]:
        """Begin ``bench``, or queue it."""
        ...


def benches_of(
    matrix: Matrix,
    cells: Sequence[Cell],
    kept: Kept,
    *,
    data_root: Path | None,
    device: str,
    threads: int,
) -> tuple[Bench, ...]:
    """What is left to do of ``cells``: a bench per defense and seed, in the order of the cells.

    Raises:
        MatrixError: a recipe or a bundle is not there, or wrong.
    """
    left: dict[tuple[str, int], list[Cell]] = {}
    for cell in cells:
        if kept.result(cell, digest(matrix, cell)) is None:
            left.setdefault((cell.defense, cell.seed), []).append(cell)
    return tuple(
        Bench(
            matrix=matrix,
            defense=defense,
            seed=seed,
            # Small budgets first: a theft grows, and what is asked for first is had first.
            cells=tuple(sorted(todo, key=lambda cell: cell.budget)),
            out=kept.out,
            data_root=data_root,
            device=device,
            threads=threads,
        )
        for (defense, seed), todo in left.items()
    )


@contextmanager
def local_crew(jobs: int) -> Iterator[Crew]:
    """Processes of this machine, ``jobs`` at a time; one that is killed costs its bench only."""
    crew = _Local(jobs)
    try:
        yield crew
    except BaseException:
        # What is in flight is lost, and only that: everything before it is on disk.
        crew.stop()
        raise
    finally:
        crew.close()


def _end_with(parent: int) -> None:
    """Of a crew's process: stop its server and end, when it is told to or is left alone."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    def look() -> None:
        while os.getppid() == parent:
            time.sleep(LOOK_S)
        os.kill(os.getpid(), signal.SIGTERM)

    signal.signal(signal.SIGTERM, stop)
    threading.Thread(target=look, daemon=True).start()


class _Local:
    """A process beside each of ``jobs`` threads, and another where that one was killed."""

    def __init__(self, jobs: int) -> None:
        self._threads = ThreadPoolExecutor(jobs)
        self._own = threading.local()
        self._pools: list[ProcessPoolExecutor] = []
        self._stopped = False
        self._lock = threading.Lock()

    def submit(self, bench: Bench) -> Future[int]:
        return self._threads.submit(self._work, bench)

    def _work(self, bench: Bench) -> int:
        pool: ProcessPoolExecutor | None = getattr(self._own, "pool", None)
        if pool is None:
            # Fresh processes: a fork of one that has used torch may hang in it.
            pool = self._own.pool = ProcessPoolExecutor(
                1,
                multiprocessing.get_context("spawn"),
                initializer=_end_with,
                initargs=(os.getpid(),),
            )
            self._pools.append(pool)
        try:
            with self._lock:  # what begins after a stop would be waited for
                if self._stopped:
                    raise CancelledError
                running = pool.submit(_run, bench)
            return running.result()
        except BrokenProcessPool:
            self._own.pool = None
            raise

    def stop(self) -> None:
        """End all processes; what waits does not begin."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        with self._lock:
            self._stopped = True
            for pool in self._pools:
                for process in list((pool._processes or {}).values()):
                    process.terminate()

    def close(self) -> None:
        """Wait for threads and processes to end."""
        self._threads.shutdown()
        for pool in self._pools:
            pool.shutdown()


def _run(bench: Bench) -> int:
    """Of a crew's process: work on ``bench``, and end if told to."""
    try:
        return run_bench(bench)
    except KeyboardInterrupt:
        # A pool takes any exception for an answer and goes on with the next bench.
        os._exit(130)


def run_benches(
    benches: Sequence[Bench], crew: Crew, kept: Kept, console: Console
) -> list[tuple[Bench, str]]:
    """Work on all ``benches``; those that ended before their cells were tried, and why."""
    cells = [(bench.matrix, cell) for bench in benches for cell in bench.cells]
    files = {cell: digest(matrix, cell) for matrix, cell in cells}
    for bench in benches:
        kept.tell(str(bench), None)  # a killed run left it behind
    running = {crew.submit(bench): bench for bench in benches}
    broken: list[tuple[Bench, str]] = []
    began = time.monotonic()
    with _bar(console) as bar:
        task = bar.add_task("cells", total=len(files), status="")
        pending = set(running)
        told: dict[str, str] = {}
        while pending:
            done, pending = wait(pending, timeout=LOOK_S, return_when=FIRST_COMPLETED)
            for future in done:
                reason = _reason(future)
                if reason is not None:
                    broken.append((running[future], reason))
            had = sum(kept.has(cell, key) for cell, key in files.items())
            stages = _stages((str(running[future]) for future in pending), kept)
            shown = "; ".join(f"{name}: {stage}" for name, stage in stages.items())
            bar.update(task, completed=had, status=shown)
            if not console.is_terminal:
                progress = f"{time.monotonic() - began:6.0f} s  {had} of {len(files)} cells"
                _log_changes(console, progress, told, stages)
                told = stages
    return broken


def _log_changes(
    console: Console, progress: str, told: Mapping[str, str], stages: Mapping[str, str]
) -> None:
    """A line, beginning with ``progress``, for each bench of ``stages`` that is not as ``told``."""
    for name, stage in stages.items():
        if told.get(name) != stage:
            console.print(f"{progress}  {name}: {stage}", highlight=False)


def _stages(benches: Iterator[str], kept: Kept) -> dict[str, str]:
    found = {bench: kept.stage(bench) for bench in benches}
    return {bench: stage for bench, stage in found.items() if stage is not None}


def _reason(future: Future[int]) -> str | None:
    """Why a bench ended without having tried its cells; None if it did."""
    try:
        future.result()
    except BrokenProcessPool:
        return "its process was killed, for instance for want of memory"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None


def _bar(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:.0f} of {task.total:.0f}"),
        TimeElapsedColumn(),
        StatusColumn(),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    )
