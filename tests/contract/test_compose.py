"""Does docker-compose.yml describe the stack and roles that exist? Checked as a file: no engine runs here."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator

from fulcrum.cli.roles import ROLES
from fulcrum.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]


def unpinned(image: str) -> bool:
    """Whether ``image`` may be another one tomorrow: no tag, or one without a full version."""
    name, _, tag = image.rpartition(":")
    return not name or "/" in tag or not re.match(r"\d+\.\d+", tag)


def test_compose_file_follows_the_specification() -> None:
    """The file is valid under the specification's own schema, and a misspelt key is not."""
    schema = json.loads((Path(__file__).parent / "compose-spec" / "compose-spec.json").read_text())
    validator = Draft7Validator(schema)
    assert [error.message for error in validator.iter_errors(COMPOSE)] == []
    broken = {"services": {"kafka": {"imagee": "apache/kafka:4.1.0"}}}
    assert list(validator.iter_errors(broken)) != []


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_image_is_pinned(name: str) -> None:
    """Every service names an image of one version."""
    assert not unpinned(SERVICES[name]["image"])


@pytest.mark.parametrize("image", ["redis", "redis:latest", "redis:7", "host:5000/redis", "python:slim"])
def test_loose_image_is_noticed(image: str) -> None:
    """An image without a full version counts as not pinned."""
    assert unpinned(image)


def test_dockerfile_is_pinned_and_not_root() -> None:
    """The roles' image starts from one version and runs as a user of its own."""
    text = (ROOT / "Dockerfile").read_text()
    (base,) = re.findall(r"^FROM (\S+)", text, re.MULTILINE)
    assert not unpinned(base)
    assert re.findall(r"^USER (\S+)", text, re.MULTILINE) == ["fulcrum"]


@pytest.mark.parametrize("role", sorted(ROLES))
def test_role_has_its_service(role: str) -> None:
    """Every role of the command line is a service that runs it, waits for the setup and is restarted."""
    service = SERVICES[role]
    assert service["command"] == ["run", role]
    assert service["depends_on"]["setup"]["condition"] == "service_completed_successfully"
    assert service["restart"] == "unless-stopped"


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_setting_exists(name: str) -> None:
    """Every FULCRUM_ variable that is passed is a setting, and its value is one that the setting takes."""
    passed = {k: v for k, v in SERVICES[name].get("environment", {}).items() if k.startswith("FULCRUM_")}
    fields = {variable.removeprefix("FULCRUM_").lower(): value for variable, value in passed.items()}
    assert set(fields) <= set(Settings.model_fields)
    Settings.model_validate(fields)


@pytest.mark.parametrize("name", sorted(set(SERVICES) - {"setup"}))
def test_service_is_checked_and_local(name: str) -> None:
    """Every lasting service has a health check and listens on the loopback address of the host only."""
    service = SERVICES[name]
    assert service["healthcheck"]["test"][0] == "CMD"
    assert service["ports"]
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])


def test_published_ports_differ() -> None:
    """No two services claim one port of the host."""
    ports = [port.split(":")[1] for service in SERVICES.values() for port in service.get("ports", [])]
    assert len(ports) == len(set(ports))


def test_volumes_are_named() -> None:
    """Data lives in declared volumes, and each declared one is used."""
    used = {volume.split(":")[0] for service in SERVICES.values() for volume in service.get("volumes", [])}
    assert used == set(COMPOSE["volumes"])


def test_setup_does_what_the_local_stack_does() -> None:
    """The one-shot service runs the same preparation as ``fulcrum dev``."""
    from fulcrum.localstack.running import STEPS

    (script,) = SERVICES["setup"]["command"]
    assert script.split("; ") == [f"fulcrum {' '.join(step)}" for step in STEPS]
