"""What ``docker compose up`` gives somebody who has just arrived."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.deploy.stack import Stack

SERVICES = ("server", "redis", "prometheus", "alertmanager")


def test_an_empty_volume_serves_the_demo_model(
    stack: Stack, images: NDArray[np.uint8], labels: NDArray[np.int64]
) -> None:
    listed = httpx.get(f"{stack.url('server', 8000)}/v1/models").json()
    assert [model["name"] for model in listed["models"]] == ["digits"]
    answers = stack.probabilities(images[:200])
    assert (answers.argmax(axis=1) == labels[:200]).mean() > 0.9
    np.testing.assert_allclose(answers.sum(axis=1), 1, atol=1e-3)


def test_answers_are_defended_as_the_configuration_says(
    stack: Stack, images: NDArray[np.uint8]
) -> None:
    thousandths = stack.probabilities(images[:20]) * 1000
    np.testing.assert_allclose(thousandths, thousandths.round(), atol=0.01)


@pytest.mark.parametrize("service", SERVICES)
def test_a_container_may_do_no_more_than_it_must(stack: Stack, service: str) -> None:
    seen = stack.inspect(stack.container(service))
    host = seen["HostConfig"]
    assert host["ReadonlyRootfs"]
    assert host["CapDrop"] == ["ALL"]
    assert not host["CapAdd"]
    assert not host["Privileged"]
    assert "no-new-privileges:true" in host["SecurityOpt"]
    assert host["Memory"] > 0
    assert host["NanoCpus"] > 0
    assert host["PidsLimit"] > 0
    assert host["LogConfig"]["Config"]["max-size"]
    # Which user really runs, and what it may: not what the configuration wishes.
    status = stack.docker("exec", seen["Id"], "cat", "/proc/self/status")
    lines = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    assert "0" not in lines["Uid"].split()
    assert int(lines["CapBnd"], 16) == 0
    assert lines["NoNewPrivs"].strip() == "1"
    failed = stack.docker("exec", seen["Id"], "sh", "-c", "touch /x || echo refused", check=False)
    assert failed.strip() == "refused"


def test_what_is_published_is_published_on_this_machine_only(stack: Stack) -> None:
    published: dict[str, set[str]] = {}
    for service in SERVICES:
        ports = stack.inspect(stack.container(service))["NetworkSettings"]["Ports"]
        for port, places in ports.items():
            for place in places or ():
                published.setdefault(service, set()).add(port)
                assert place["HostIp"] == "127.0.0.1"
    assert published == {
        "server": {"8000/tcp"},
        "prometheus": {"9090/tcp"},
        "alertmanager": {"9093/tcp"},
    }


def test_networks_of_the_inside_have_no_way_out(stack: Stack) -> None:
    for name, internal in {"state": True, "metrics": True, "callers": False}.items():
        network = json.loads(stack.docker("network", "inspect", f"{stack.project}_{name}"))[0]
        assert network["Internal"] is internal
    redis = stack.inspect(stack.container("redis"))["NetworkSettings"]["Networks"]
    assert set(redis) == {f"{stack.project}_state"}


def test_passwords_are_in_files_and_in_nothing_that_can_be_listed(stack: Stack) -> None:
    redis = stack.container("redis")
    password = stack.docker("exec", redis, "cat", "/secrets/redis/password").strip()
    assert len(password) > 30
    assert "NOAUTH" in stack.docker("exec", redis, "redis-cli", "ping", check=False)
    for service in SERVICES:
        container = stack.container(service)
        assert password not in json.dumps(stack.inspect(container))
        assert password not in stack.docker("logs", container)
        assert password not in stack.docker("top", container, "-eo", "pid,args")
    modes = stack.docker(
        "exec", stack.container("server"), "stat", "-c", "%a", "/state/seed-secret"
    )
    assert modes.strip() == "600"


def test_logs_are_json(stack: Stack) -> None:
    done = stack.docker("logs", "--tail", "20", stack.container("server"))
    for line in done.splitlines():
        if not line.startswith("Intaglio is ready"):
            assert {"time", "level", "message"} <= json.loads(line).keys()


def test_a_bundle_of_ones_own_is_copied_into_the_volume(stack: Stack, tmp_path: Path) -> None:
    """The command of docs/operations.md, "Models of your own"."""
    card = tmp_path / "mine" / "1" / "card.json"
    card.parent.mkdir(parents=True)
    card.write_text("{}")
    for path in (tmp_path, *tmp_path.rglob("*")):
        path.chmod(0o755)
    stack.compose(
        *("run", "--rm", "--no-deps", "--volume", f"{tmp_path}:/from:ro", "--entrypoint", "cp"),
        *("first-start", "-r", "/from/.", "/models"),
    )
    server = stack.container("server")
    assert stack.docker("exec", server, "cat", "/models/mine/1/card.json") == "{}"
    refused = stack.docker("exec", server, "sh", "-c", "rm -r /models/mine || echo no", check=False)
    assert refused.strip() == "no"


def test_the_attackers_image_has_nothing_of_the_server(stack: Stack) -> None:
    image = "intaglio-attack:test"
    absent = "import importlib.util as u; print([n for n in {} if u.find_spec(n)])"
    names = ["fastapi", "redis", "uvicorn", "prometheus_client", "scipy", "sklearn"]
    run = ("run", "--rm", "--entrypoint", "python", image, "-c", absent.format(names))
    assert stack.docker(*run).strip() == "[]"
    sizes = {
        name: int(stack.docker("image", "inspect", "-f", "{{.Size}}", f"intaglio-{name}:test"))
        for name in ("server", "attack")
    }
    assert sizes["attack"] < sizes["server"], sizes


def test_a_theft_from_a_container_beside_the_server(
    stack: Stack, images: NDArray[np.uint8], labels: NDArray[np.int64], tmp_path: Path
) -> None:
    half = len(images) // 2
    np.savez_compressed(
        tmp_path / "task.npz",
        x_train=images[:half, 0],
        y_train=labels[:half],
        x_test=images[half:, 0],
        y_test=labels[half:],
    )
    tmp_path.chmod(0o755)
    (tmp_path / "task.npz").chmod(0o644)
    said = stack.docker(
        *("run", "--rm", "--network", f"{stack.project}_callers", "--read-only", "--tmpfs", "/tmp"),
        *("--cap-drop", "ALL", "--volume", f"{tmp_path}:/data:ro", "intaglio-attack:test"),
        *("attack", "knockoff", "--url", "http://server:8000", "--model", "digits"),
        *("--pool", "letters", "--budget", "300", "--clone", "cnn-small", "--test", "task"),
        *("--out", "/tmp/theft", "--epochs", "2", "--latency-requests", "5", "--device", "cpu"),
    )
    assert "300" in said, said
