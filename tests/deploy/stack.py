"""The stack of docker-compose.yml as a whole, driven from outside with docker and compose."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import httpx
import numpy as np
from numpy.typing import NDArray

__all__ = ["ROOT", "Stack", "eventually"]

ROOT = Path(__file__).parents[2]
T = TypeVar("T")

ENVIRONMENT = {
    "INTAGLIO_CALLERS": "open",
    "INTAGLIO_PUBLISH": "127.0.0.1:",  # a free port each
    "PROMETHEUS_PUBLISH": "127.0.0.1:",
    "ALERTMANAGER_PUBLISH": "127.0.0.1:",
    "BALANCER_PUBLISH": "127.0.0.1:",
}


def eventually(look: Callable[[], T], *, within_s: float) -> T:
    """What ``look`` returns once it is true and raises nothing; looked at twice a second."""
    end = time.monotonic() + within_s
    while True:
        last: object
        try:
            last = seen = look()
            if seen:
                return seen
        except (httpx.HTTPError, AssertionError, LookupError) as error:
            last = repr(error)
        if time.monotonic() > end:
            raise AssertionError(f"not within {within_s:g} s; last: {last}")
        time.sleep(0.5)


class Stack:
    """One compose project.

    Args:
        project: its name, which nothing else on the engine has.
        files: compose files, each on top of those before.
    """

    def __init__(self, project: str, files: tuple[str, ...] = ("docker-compose.yml",)) -> None:
        self.project = project
        self._files = [word for name in files for word in ("-f", name)]
        self.environment: dict[str, str] = dict(ENVIRONMENT)

    def docker(self, *words: str, check: bool = True) -> str:
        """The output of ``docker`` with these arguments."""
        return self._run("docker", *words, check=check)

    def compose(self, *words: str, check: bool = True) -> str:
        """The output of compose with these arguments."""
        tool = ["docker-compose"] if shutil.which("docker-compose") else ["docker", "compose"]
        return self._run(*tool, "-p", self.project, *self._files, *words, check=check)

    def container(self, service: str) -> str:
        """The id of the one container of ``service``."""
        return self.containers(service)[0]

    def containers(self, service: str) -> list[str]:
        """The ids of the containers of ``service``, oldest first, those that stopped included.

        Asked of the engine, which answers ten times faster than compose: every request comes by.
        """
        label = "label=com.docker.compose"
        newest_first = self.docker(
            *("ps", "--all", "--quiet", "--no-trunc", "--filter", f"{label}.oneoff=False"),
            *("--filter", f"{label}.project={self.project}"),
            *("--filter", f"{label}.service={service}"),
        ).split()
        return newest_first[::-1]

    def inspect(self, container: str) -> Mapping[str, Any]:
        """What the engine knows of a container."""
        found: Mapping[str, Any] = json.loads(self.docker("inspect", container))[0]
        return found

    def healthy(self, *services: str, within_s: float = 120) -> None:
        """Wait until every container of ``services`` says that it is well."""

        def all_well() -> bool:
            states = [
                self.inspect(container)["State"].get("Health", {}).get("Status")
                for service in services
                for container in self.containers(service)
            ]
            assert set(states) == {"healthy"}, states
            return True

        eventually(all_well, within_s=within_s)

    def url(self, service: str, port: int) -> str:
        """Where ``port`` of the one container of ``service`` is published."""
        published = self.docker("port", self.container(service), f"{port}/tcp").split()
        return f"http://{published[0]}"

    def ask(
        self,
        images: NDArray[np.uint8],
        *,
        service: str = "server",
        timeout_s: float = 30,
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        """Send ``images`` ``(n, C, H, W)`` to the model ``digits``."""
        body = {
            "inputs": [
                {
                    "name": "images",
                    "datatype": "UINT8",
                    "shape": list(images.shape),
                    "data": images.ravel().tolist(),
                }
            ]
        }
        url = f"{self.url(service, 8000)}/v2/models/digits/infer"
        return httpx.post(url, json=body, timeout=timeout_s, headers=headers)

    def probabilities(self, images: NDArray[np.uint8], **how: Any) -> NDArray[np.float32]:
        """Answers ``(n, K)`` to ``images``, which must be answered."""
        answer = self.ask(images, **how)
        assert answer.status_code == 200, answer.text
        output = answer.json()["outputs"][0]
        return np.array(output["data"], dtype=np.float32).reshape(output["shape"])

    def measure(self, query: str) -> list[dict[str, Any]]:
        """What Prometheus answers to ``query``."""
        answer = httpx.get(f"{self.url('prometheus', 9090)}/api/v1/query", params={"query": query})
        found = answer.json()
        assert found["status"] == "success", found
        result: list[dict[str, Any]] = found["data"]["result"]
        return result

    def value(self, query: str) -> float:
        """The one number that ``query`` gives."""
        return float(self.measure(query)[0]["value"][1])

    def scraped(self) -> None:
        """Wait until Prometheus has seen every replica as it is now, or later."""
        now = time.time()
        eventually(lambda: self.value("min(timestamp(intaglio_ready))") > now, within_s=60)

    def _run(self, *words: str, check: bool) -> str:
        environment = {**os.environ, **self.environment}
        done = subprocess.run(
            words, cwd=ROOT, env=environment, text=True, capture_output=True, check=False
        )
        if check and done.returncode:
            raise RuntimeError(f"{' '.join(words)}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
        return done.stdout
