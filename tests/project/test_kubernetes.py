"""The manifests: valid by the schemas of Kubernetes, and of one piece with the server."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import yaml

from server.settings import load_settings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import kubernetes_validate

ROOT = Path(__file__).parents[2] / "docker/kubernetes"
KUBERNETES = "1.29"
"""The oldest release that is promised to take them."""


def documents() -> list[dict[str, Any]]:
    kustomization = yaml.safe_load((ROOT / "kustomization.yaml").read_text())
    return [
        document
        for name in kustomization["resources"]
        for document in yaml.safe_load_all((ROOT / name).read_text())
    ]


def one(kind: str, name: str = "intaglio-server") -> dict[str, Any]:
    (found,) = (d for d in documents() if d["kind"] == kind and d["metadata"]["name"] == name)
    return found


@pytest.mark.parametrize(
    "document", documents(), ids=lambda d: f"{d['kind']} {d['metadata']['name']}"
)
def test_a_manifest_is_valid(document: dict[str, Any]) -> None:
    kubernetes_validate.validate(document, KUBERNETES, strict=True)


def test_a_misspelt_manifest_would_be_found() -> None:
    wrong = one("Deployment")
    wrong["spec"]["replica"] = wrong["spec"].pop("replicas")
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, KUBERNETES, strict=True)


def test_every_file_is_listed() -> None:
    kustomization = yaml.safe_load((ROOT / "kustomization.yaml").read_text())
    there = {path.name for path in ROOT.glob("*.yaml")}
    generated = {
        entry.partition("=")[2]
        for generator in kustomization["configMapGenerator"]
        for entry in generator["files"]
    }
    assert {*kustomization["resources"], *generated, "kustomization.yaml"} == there


def test_selectors_ports_and_volumes_meet() -> None:
    pod = one("Deployment")["spec"]["template"]
    labels = pod["metadata"]["labels"]
    (container,) = pod["spec"]["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    for name in ("intaglio-server", "intaglio-metrics"):
        service = one("Service", name)["spec"]
        assert service["selector"] == labels
        for port in service["ports"]:
            assert port["targetPort"] in ports
    assert {"http"} == {p["targetPort"] for p in one("Service")["spec"]["ports"]}
    assert one("Deployment")["spec"]["selector"]["matchLabels"] == labels
    assert one("PodDisruptionBudget")["spec"]["selector"]["matchLabels"] == labels
    policy = one("NetworkPolicy")["spec"]
    assert policy["podSelector"]["matchLabels"] == labels
    open_ports = {port["port"] for rule in policy["ingress"] for port in rule["ports"]}
    assert open_ports == set(ports.values())
    # One file of a volume, unlike the whole, would stay as it was when the pod started.
    assert not any("subPath" in mount for mount in container["volumeMounts"])
    mounted = {mount["name"] for mount in container["volumeMounts"]}
    assert mounted == {volume["name"] for volume in pod["spec"]["volumes"]}
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"]["port"] in ports


def test_a_pod_may_do_no_more_than_it_must() -> None:
    pod = one("Deployment")["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault"
    assert pod["automountServiceAccountToken"] is False
    (container,) = pod["containers"]
    rights = container["securityContext"]
    assert rights["readOnlyRootFilesystem"] is True
    assert rights["allowPrivilegeEscalation"] is False
    assert rights["capabilities"] == {"drop": ["ALL"]}
    assert container["resources"].keys() == {"requests", "limits"}


def test_the_servers_settings_are_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    pod = one("Deployment")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    for variable in container["env"]:
        monkeypatch.setenv(variable["name"], variable["value"])
    monkeypatch.setenv("INTAGLIO_MODEL_DIR", "/models")
    settings = load_settings(ROOT / "settings.yaml")
    assert settings.models
    assert pod["terminationGracePeriodSeconds"] > settings.drain_s + 5
    mounts = [mount["mountPath"] for mount in container["volumeMounts"]]
    for path in (settings.model_dir, settings.secret_file, settings.redis.password_file):
        assert path is not None
        assert any(str(path).startswith(mount) for mount in mounts), path
