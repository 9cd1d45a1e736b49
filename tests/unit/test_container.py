"""The image's recipe, the compose file and the manifest, held against what the agent is and takes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from event_agent import __version__
from event_agent.config.load import load
from event_agent.ctl import program as ctl

ROOT = Path(__file__).resolve().parent.parent.parent
FOLDER = ROOT / "examples/container"
USER = 10001

pytestmark = pytest.mark.skipif(not FOLDER.exists(), reason="not a checkout")


@pytest.fixture(scope="module")
def compose() -> Any:
    return yaml.safe_load((FOLDER / "compose.yaml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def pod() -> Any:
    return yaml.safe_load((FOLDER / "kubernetes.yaml").read_text(encoding="utf-8"))["spec"]["template"]["spec"]


@pytest.fixture(scope="module")
def stages() -> list[str]:
    return re.split(r"(?m)^FROM ", (ROOT / "Containerfile").read_text(encoding="utf-8"))[1:]


def loaded(environ: dict[str, str], tmp_path: Path) -> None:
    """These variables are settings, and the values can be used; secrets are in files."""
    secret = tmp_path / "secret"
    secret.write_text("s3cret\n")
    for name in environ:
        if name.endswith("_FILE"):
            environ[name] = str(secret)
    assert not load(None, environ).warnings


def test_the_image_is_not_root_and_has_no_compiler(stages: list[str]) -> None:
    build, image = stages
    assert "make deb" in build and "AS build" in build
    assert re.findall(r"(?m)^USER (.+)$", image) == [f"{USER}:{USER}"]
    assert "STOPSIGNAL SIGTERM" in image and 'ENTRYPOINT ["/usr/bin/event-agent"]' in image
    installed = re.findall(r"install -y --no-install-recommends (.+?) &&", image)
    assert installed == ["ca-certificates /tmp/event-agent_*.deb"]
    assert "install -d -o 10001" in image and "VOLUME /var/lib/event-agent" in image


def test_the_ignored_are_the_same_for_docker() -> None:
    assert (ROOT / ".containerignore").read_text() == (ROOT / ".dockerignore").read_text()


def images(compose: Any, pod: Any, stages: list[str]) -> Iterator[str]:
    yield from (service["image"] for service in compose["services"].values())
    yield from (container["image"] for container in pod["containers"])
    yield from re.findall(r"ARG BASE=(\S+)", (ROOT / "Containerfile").read_text(encoding="utf-8"))


def test_images_have_their_usual_short_names(compose: Any, pod: Any, stages: list[str]) -> None:
    for name in images(compose, pod, stages):
        assert re.fullmatch(r"[a-z-]+(:[\w.-]+)?", name), name
    assert f"event-agent:{__version__}" in {container["image"] for container in pod["containers"]}


def test_compose(compose: Any, tmp_path: Path) -> None:
    services = compose["services"]
    agent = services["agent"]
    defaults = {name: re.sub(r"\$\{\w+:-(.*?)\}", r"\1", value) for name, value in agent["environment"].items()}
    assert defaults["MOD_EVENT_AGENT_ESL_HOST"] == "switch" and services["switch"]["profiles"] == ["try"]
    loaded(defaults, tmp_path)
    assert agent["read_only"] and agent["cap_drop"] == ["ALL"] and "user" not in agent
    assert "--jetstream" in services["nats"]["command"]
    for name, service in services.items():
        assert set(service.get("depends_on", [])) <= set(services), name
        for volume in service.get("volumes", []):
            where = volume.partition(":")[0]
            assert where in compose["volumes"] or (FOLDER / where).exists(), volume
        for secret in service.get("secrets", []):
            assert (FOLDER / compose["secrets"][secret]["file"]).exists()
    ctl.parser().parse(services["stream"]["entrypoint"][1:])
    assert (FOLDER / services["stream"]["build"]["context"] / services["stream"]["build"]["dockerfile"]).exists()


def test_the_sidecar(pod: Any, tmp_path: Path) -> None:
    (agent,) = [each for each in pod["containers"] if each["name"] == "event-agent"]
    loaded({each["name"]: each.get("value", "freeswitch-0") for each in agent["env"]}, tmp_path)
    security = agent["securityContext"]
    assert security["runAsNonRoot"] and security["runAsUser"] == USER and security["readOnlyRootFilesystem"]
    assert not security["allowPrivilegeEscalation"] and security["capabilities"] == {"drop": ["ALL"]}
    probes = {name: agent[name]["httpGet"] for name in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert {name: each["path"] for name, each in probes.items()} == {
        "startupProbe": "/live", "livenessProbe": "/live", "readinessProbe": "/ready",
    }  # fmt: skip
    (port,) = agent["ports"]
    assert {each["port"] for each in probes.values()} == {port["name"]} and port["containerPort"] == 8092
    mounted = {each["name"]: each["mountPath"] for each in agent["volumeMounts"]}
    assert mounted["state"] == "/var/lib/event-agent"
    files = [each["value"] for each in agent["env"] if each["name"].endswith("_FILE")]
    assert files and all(path.startswith(f"{mounted['secrets']}/") for path in files)
    assert pod["securityContext"]["fsGroup"] == USER
