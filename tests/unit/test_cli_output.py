"""Is every command uniform: help, forms of output, exit codes, and no question to a program?

Long, because each rule walks the whole tree of commands.
"""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from fulcrum.cli import api, completion, consent, main, stack
from fulcrum.cli.client import Client, Output, refusal, show_document, show_rows
from fulcrum.cli.exits import MEANINGS, Exit, of_error, of_status
from fulcrum.cli.reference import leaves
from fulcrum.errors import (
    Conflict,
    Corrupt,
    Forbidden,
    FulcrumError,
    Misconfigured,
    NotFound,
    OutcomeUnknown,
    Rejected,
    Unavailable,
)

COMMANDS: dict[str, Any] = dict(leaves(typer.main.get_command(main.whole())))
#: Commands that do something and have nothing to show but that they did, or print text that is no data.
NO_DATA = {
    "fulcrum run",
    "fulcrum version",
    "fulcrum dev",
    "fulcrum completion",
    "fulcrum reference",
    "fulcrum definition docs",
    "fulcrum definition graph",
    "fulcrum stack up",
    "fulcrum stack down",
    "fulcrum stack wipe",
    "fulcrum stack env",
    "fulcrum db migrate",
    "fulcrum topics create",
    "fulcrum schema register",
    "fulcrum schema snapshot",
}
#: Programs that take minutes and end with one document: --json.
ONE_DOCUMENT = ("fulcrum bench", "fulcrum demo", "fulcrum simulate")
TREE = Path(main.__file__).parent


def options(command: Any) -> dict[str, Any]:
    """The options of a command by spelling."""
    return {spelling: each for each in command.params for spelling in each.opts}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name: str) -> None:
    """Its help begins with a sentence, and each argument and option has a text."""
    command = COMMANDS[name]
    assert command.help, name
    first = command.help.strip().partition("\n\n")[0]
    assert first[0].isupper(), name
    assert first.rstrip().endswith((".", ":")), first
    bare = [each.name for each in command.params if not each.help]
    assert bare == [], f"{name} does not explain {bare}"


@pytest.mark.parametrize("name", sorted(set(COMMANDS) - NO_DATA))
def test_every_command_that_shows_data_has_forms_for_programs(name: str) -> None:
    """-o offers table, json and ndjson; what measures has --json."""
    spelled = options(COMMANDS[name])
    if name.startswith(ONE_DOCUMENT):
        assert "--json" in spelled
        return
    assert {"-o", "--output"} <= set(spelled), f"{name} shows data and has no -o; or name it in NO_DATA"
    shown = spelled["-o"].get_help_record(typer.Context(COMMANDS[name]))[0]
    assert all(str(form) in shown for form in Output), shown


def test_what_shows_no_data_exists() -> None:
    """The exceptions above are commands."""
    assert set(COMMANDS) >= NO_DATA


@pytest.mark.parametrize("name", COMMANDS)
def test_no_option_prompts(name: str) -> None:
    """An option that is missing is an error and no question."""
    assert [each.name for each in COMMANDS[name].params if getattr(each, "prompt", None)] == []


def test_only_one_place_asks_a_person() -> None:
    """Questions go through ``consent``, which knows whether anybody can answer."""
    asking = set()
    for path in TREE.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            asked = isinstance(node, ast.Attribute) and node.attr in ("confirm", "prompt")
            if asked or (isinstance(node, ast.Name) and node.id == "input"):
                asking.add(path.name)
    assert asking == {"consent.py"}


def test_exit_codes_are_names() -> None:
    """A number would say nothing, and might say something else than the list."""
    numbers = [
        f"{path.name}:{node.lineno}"
        for path in TREE.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "Exit"
        and any(isinstance(given, ast.Constant) for given in node.args)
    ]
    assert numbers == []


def test_program_is_not_asked_and_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a terminal a wipe needs --yes: exit code 2, and nothing is removed."""
    wiped: list[bool] = []
    monkeypatch.setattr(stack.Stack, "wipe", lambda self, say, downloads: wiped.append(downloads))
    seen = CliRunner().invoke(stack.app, ["wipe"])
    assert (seen.exit_code, seen.stdout, wiped) == (2, "", [])
    assert "--yes" in seen.stderr
    assert CliRunner().invoke(stack.app, ["wipe", "--yes"]).exit_code == 0
    assert wiped == [False]


@pytest.mark.parametrize(("answer", "code", "times"), [("y\n", 0, 1), ("n\n", 2, 0)])
def test_person_is_asked(monkeypatch: pytest.MonkeyPatch, answer: str, code: int, times: int) -> None:
    """On a terminal yes goes on, and no is exit code 2."""
    wiped: list[bool] = []
    monkeypatch.setattr(stack.Stack, "wipe", lambda self, say, downloads: wiped.append(downloads))
    monkeypatch.setattr(consent, "on_terminal", lambda: True)
    seen = CliRunner().invoke(stack.app, ["wipe"], input=answer)
    assert (seen.exit_code, len(wiped)) == (code, times)


ENDS: list[tuple[type[BaseException], int]] = [
    (FulcrumError, 1),
    (Rejected, 1),
    (Corrupt, 1),
    (Misconfigured, 1),
    (OutcomeUnknown, 1),
    (NotFound, 3),
    (Forbidden, 4),
    (Conflict, 5),
    (Unavailable, 7),
    (KeyboardInterrupt, 130),
]


@pytest.mark.parametrize(("error", "code"), ENDS)
def test_each_class_of_error_has_its_exit_code(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: type[BaseException],
    code: int,
) -> None:
    """What a command raises is one line on stderr and the code of its class."""

    def fail(*_: object, **__: object) -> None:
        raise error("away [red]x[/red]")

    monkeypatch.setattr(Client, "get", fail)
    monkeypatch.setattr(sys, "argv", ["fulcrum", "wf", "list"])
    with pytest.raises(SystemExit) as ended:
        main.main()
    told = capsys.readouterr()
    assert (ended.value.code, told.out) == (code, "")
    assert "Traceback" not in told.err
    assert error is KeyboardInterrupt or "away [red]x[/red]" in told.err


@pytest.mark.parametrize("form", [["-o", "json"], ["--output=ndjson"], ["-ojson"]])
def test_error_is_json_for_a_program(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], form: list[str]
) -> None:
    """Whoever asked for JSON gets the error as one line of it, on stderr."""

    def fail(*_: object, **__: object) -> None:
        raise NotFound('no "w"\nat all')

    monkeypatch.setattr(Client, "get", fail)
    monkeypatch.setattr(sys, "argv", ["fulcrum", "wf", "show", "w", *form])
    with pytest.raises(SystemExit):
        main.main()
    told = json.loads(capsys.readouterr().err)
    assert told == {"error": "NotFound", "detail": 'no "w"\nat all', "exit_code": 3}


def test_wrong_usage_is_exit_code_2(monkeypatch: pytest.MonkeyPatch) -> None:
    """An option that does not exist."""
    monkeypatch.setattr(sys, "argv", ["fulcrum", "wf", "list", "--no-such-option"])
    with pytest.raises(SystemExit) as ended:
        main.main()
    assert ended.value.code == 2


def test_every_code_means_something_and_the_help_of_the_root_says_what() -> None:
    """The list is whole, and --help has it line by line."""
    assert set(MEANINGS) == set(Exit)
    shown = CliRunner().invoke(main.app, ["--help"]).stdout
    for code, meaning in MEANINGS.items():
        assert any(line.split() == [str(int(code)), *meaning.split()] for line in shown.splitlines()), meaning


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (200, 0),
        (204, 0),
        (400, 1),
        (401, 4),
        (403, 4),
        (404, 3),
        (409, 5),
        (410, 3),
        (422, 1),
        (500, 7),
        (503, 7),
    ],
)
def test_api_ends_by_the_class_of_the_status(monkeypatch: pytest.MonkeyPatch, status: int, code: int) -> None:
    """The answer goes to stdout as it came; a problem to stderr."""
    text = '{"title":"[red]x[/red] \\u00e4"}'
    monkeypatch.setattr(Client, "exchange", lambda *_: (status, text.encode(), {}))
    seen = CliRunner().invoke(single(api.api), ["get", "/v1/x"])
    assert of_status(status) == seen.exit_code == code
    assert (seen.stdout if code == 0 else seen.stderr) == f"{text}\n"


def single(command: Callable[..., Any]) -> typer.Typer:
    """A program of one command."""
    app = typer.Typer()
    app.command()(command)
    return app


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What is sent to an API that has two pages of items."""
    told: list[tuple[Any, ...]] = []

    def exchange(_: Client, method: str, path: str, body: str | None, headers: Any) -> tuple[int, bytes, Any]:
        told.append((method, path, None if body is None else json.loads(body), dict(headers)))
        page = (
            {"items": [2], "next_cursor": None} if "cursor" in path else {"items": [1], "next_cursor": "c d"}
        )
        return 200, json.dumps(page).encode(), {}

    monkeypatch.setattr(Client, "exchange", exchange)
    return told


def test_api_sends_fields_as_query_or_body(sent: list[tuple[Any, ...]]) -> None:
    """A value that is JSON is taken as such in a body; a query is text."""
    app = single(api.api)
    CliRunner().invoke(app, ["GET", "/v1/x?a=1", "-f", "b=x y"])
    given = ["-f", "n=5", "-f", "text=tea", "-f", 'quoted="5"', "-f", "list=[1]", "-H", "Idempotency-Key: k"]
    CliRunner().invoke(app, ["post", "/v1/x", *given])
    assert sent == [
        ("GET", "/v1/x?a=1&b=x+y", None, {}),
        ("POST", "/v1/x", {"n": 5, "text": "tea", "quoted": "5", "list": [1]}, {"Idempotency-Key": "k"}),
    ]


def test_api_paginates(sent: list[tuple[Any, ...]]) -> None:
    """The items of all pages are one list; ndjson has a line for each."""
    app = single(api.api)
    assert json.loads(CliRunner().invoke(app, ["GET", "/v1/x", "--paginate"]).stdout) == [1, 2]
    assert CliRunner().invoke(app, ["GET", "/v1/x", "--paginate", "-o", "ndjson"]).stdout == "1\n2\n"
    assert sent[1][1] == "/v1/x?cursor=c+d"


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["FETCH", "/v1/x"], "METHOD"),
        (["GET", "v1/x"], "PATH"),
        (["POST", "/v1/x", "--paginate"], "--paginate"),
        (["GET", "/v1/x", "-f", "b"], "--field"),
        (["POST", "/v1/x", "--input", "missing.json"], "missing.json"),
        (["GET", "/v1/x", "-o", "table"], "-o table"),
    ],
)
def test_api_refuses_what_it_cannot_send(arguments: list[str], named: str) -> None:
    """The error names what is wrong, before anything is sent."""
    seen = CliRunner().invoke(single(api.api), arguments)
    assert isinstance(seen.exception, Rejected)
    assert named in str(seen.exception)


ROW = {
    "id": "i-1",
    "text": "[red]x[/red] \x1b[31m ä 9223372036854775807",
    "big": 9223372036854775807,
    "at": None,
}


@pytest.mark.parametrize("form", [Output.JSON, Output.NDJSON])
def test_json_is_untouched(
    form: Output, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither markup, colour nor the width of a terminal reaches it; big numbers stay whole."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "20")
    show_rows([ROW], {}, form)
    shown = json.loads(capsys.readouterr().out)
    assert (shown if form is Output.NDJSON else shown[0]) == ROW
    show_document(ROW, form)
    assert json.loads(capsys.readouterr().out) == ROW


def test_table_has_no_escape_where_no_terminal_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A pipe gets plain text, with what is in brackets."""
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    row = {**ROW, "text": "[red]x[/red]"}
    show_rows([row], {"id": "id", "text": "text"}, Output.TABLE)
    show_document(row, Output.TABLE)
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    assert shown.count("[red]x[/red]") == 2


@pytest.mark.parametrize("shell", list(completion.Shell))
def test_completion_script_is_of_the_program(shell: completion.Shell) -> None:
    """The script asks ``fulcrum`` by the variable that it listens to."""
    seen = CliRunner().invoke(single(completion.completion), [shell.value])
    assert seen.exit_code == 0
    assert completion.VARIABLE in seen.stdout


def test_shell_gets_the_commands_that_fit() -> None:
    """What was typed so far narrows them down; a process of its own, for the answer depends on the start."""
    asked = {"COMP_WORDS": "fulcrum wf re", "COMP_CWORD": "2", completion.VARIABLE: "complete_bash"}
    command = [sys.executable, "-m", "fulcrum"]
    told = subprocess.run(command, env={**os.environ, **asked}, capture_output=True, text=True, timeout=60)
    assert (told.returncode, told.stdout.split()) == (0, ["retry", "resume"]), told.stderr


def test_problem_of_the_api_becomes_the_error_of_its_status() -> None:
    """What is switched off is not allowed; the exit code follows."""
    problem = {"title": "Switched off", "detail": "Editing is off."}
    assert of_error(refusal(403, problem)) is Exit.FORBIDDEN
    assert of_error(refusal(418, problem)) is Exit.FAILED
