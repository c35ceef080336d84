"""Does ``fulcrum config`` find what is wrong, and hide what is secret?"""

from __future__ import annotations

import json
import os

import pytest
from typer.testing import CliRunner

from fulcrum.cli import config
from fulcrum.cli.redaction import redacted


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of this environment counts."""
    for name in [name for name in os.environ if name.startswith("FULCRUM_")]:
        monkeypatch.delenv(name)


def checked() -> tuple[int, list[dict[str, str]]]:
    """The exit code and what was found."""
    seen = CliRunner().invoke(config.app, ["check", "-o", "json"])
    return seen.exit_code, json.loads(seen.stdout)


def test_defaults_are_fine() -> None:
    """Nothing found is an empty list and exit code 0."""
    assert checked() == (0, [])


@pytest.mark.parametrize(
    ("variable", "value", "told"),
    [
        ("FULCRUM_CONCURENCY", "8", "FULCRUM_CONCURRENCY"),
        ("FULCRUM_PARTITIONS", "0", "greater than or equal"),
        ("FULCRUM_PSP_TIMEOUT", "60", "FULCRUM_PSP_TIMEOUT"),
        ("FULCRUM_CONCURRENCY", "2", "FULCRUM_PSP_CONCURRENCY"),
        ("FULCRUM_ACCOUNTS_GRACE", "1", "FULCRUM_ACCOUNTS_INTERVAL"),
    ],
)
def test_each_fault_is_found(monkeypatch: pytest.MonkeyPatch, variable: str, value: str, told: str) -> None:
    """Misspelt, out of range, or against another setting: exit code 10, with a remedy."""
    monkeypatch.setenv(variable, value)
    code, (fault,) = checked()
    assert code == 10
    assert told in " ".join(fault.values())
    assert fault["remedy"]


def test_every_fault_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """One look is enough to mend all of them."""
    monkeypatch.setenv("FULCRUM_PARTITIONS", "none")
    monkeypatch.setenv("FULCRUM_NAMESPACE", "?")
    monkeypatch.setenv("FULCRUM_NONSENSE_AT_ALL", "1")
    code, faults = checked()
    assert code == 10
    assert {fault["variable"] for fault in faults} == {
        "FULCRUM_PARTITIONS",
        "FULCRUM_NAMESPACE",
        "FULCRUM_NONSENSE_AT_ALL",
    }


def test_sources_are_those_that_are_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the defaults, and without the password."""
    monkeypatch.setenv("FULCRUM_POSTGRES_DSN", "postgresql://ana:hush@db/x")
    seen = CliRunner().invoke(config.app, ["show", "--sources", "-o", "json"])
    (row,) = json.loads(seen.stdout)
    assert (row["variable"], row["value"]) == ("FULCRUM_POSTGRES_DSN", "postgresql://ana:***@db/x")
    assert "hush" not in CliRunner().invoke(config.app, ["show"]).stdout


@pytest.mark.parametrize(
    "text",
    [
        "amqp://ana:hush@h:5672/",
        "redis://:hush@h:6379/0",
        "host=db user=ana password=hush dbname=x",
        '{"api_key": "hush", "a": 1}',
        "Authorization: Bearer hush.hush.hush",
        "GET /x?token=hush&a=1",
        "FULCRUM_PSP_SECRET=hush",
    ],
)
def test_secrets_are_hidden(text: str) -> None:
    """In addresses, key-value texts, JSON and headers; nothing else of them is lost."""
    shown = redacted(text)
    assert "hush" not in shown
    assert "***" in shown
    if text.startswith("{"):
        assert json.loads(shown)["a"] == 1


def test_what_is_no_secret_stays() -> None:
    """Addresses without a password, ids and times."""
    text = "kafka 127.0.0.1:9092 http://h:80/a?b=c 2026-03-01T12:00:00Z idempotency-key=k-1"
    assert redacted(text) == text
