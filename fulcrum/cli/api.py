"""``fulcrum api``: any request to the API, with its answer as it came."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import typer

from fulcrum.cli.client import Client, Output, show_json, show_line
from fulcrum.cli.exits import Exit, of_status
from fulcrum.errors import Rejected

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")


def api(
    method: Annotated[str, typer.Argument(help=f"One of {', '.join(METHODS)}.")],
    path: Annotated[str, typer.Argument(help="Such as /v1/workflows; /openapi.json describes all of them.")],
    field: Annotated[
        list[str] | None,
        typer.Option(
            "--field",
            "-f",
            metavar="KEY=VALUE",
            help="A parameter of the query of a GET, a field of the body otherwise. In a body a value that "
            'is JSON (5, true, null, a list, "5") is taken as such, everything else as text.',
        ),
    ] = None,
    body: Annotated[
        Path | None, typer.Option("--input", help="The whole body as a file with JSON; - reads stdin.")
    ] = None,
    header: Annotated[
        list[str] | None,
        typer.Option("--header", "-H", metavar="NAME:VALUE", help="A header, such as Idempotency-Key:k1."),
    ] = None,
    paginate: Annotated[
        bool, typer.Option("--paginate", help="GET every page and print the items of all as one list.")
    ] = False,
    output: Annotated[
        Output | None,
        typer.Option("--output", "-o", help="json is indented, ndjson one line; without it as it came."),
    ] = None,
) -> None:
    """Send a request to the API and print the answer; the exit code tells the class of its status.

    0 below 400, 3 for 404 and 410, 4 for 401 and 403, 5 for 409 and 412, 1 for any other of 400 to 499, and 7
    from 500 on. An answer that is a problem goes to standard error.
    """
    verb = method.upper()
    if verb not in METHODS:
        raise Rejected(f"METHOD {method!r} is unknown; one of {', '.join(METHODS)}")
    if not path.startswith("/"):
        raise Rejected(f"PATH {path!r} is no path; begin it with /, such as /v1/workflows")
    if paginate and verb != "GET":
        raise Rejected(f"--paginate goes with GET, not with {verb}")
    if body is not None and (field or verb == "GET"):
        raise Rejected("--input is the whole body: it goes without --field, and not with GET")
    if output is Output.TABLE:
        raise Rejected("-o table cannot show every answer; json or ndjson")
    headers = dict(_pair(each, ":", "--header") for each in header or ())
    fields = [_pair(each, "=", "--field") for each in field or ()]
    client = Client()
    if paginate:
        _print_pages(client, _asking(path, fields), headers, output)
        return
    if verb == "GET":
        path, sent = _asking(path, fields), None
    else:
        given = {name: _value(text) for name, text in fields}
        sent = _content(body) if body is not None else json.dumps(given)
    _print(*client.exchange(verb, path, sent, headers)[:2], output)


def _asking(path: str, fields: Sequence[tuple[str, str]]) -> str:
    """``path`` with ``fields`` added to its query."""
    parts = urlsplit(path)
    query = [*parse_qsl(parts.query, keep_blank_values=True), *fields]
    return f"{parts.path}?{urlencode(query)}" if query else parts.path


def _pair(given: str, sign: str, option: str) -> tuple[str, str]:
    name, found, value = given.partition(sign)
    if not found or not name.strip():
        raise Rejected(f"{option} {given!r} is none; give NAME{sign}VALUE")
    return name.strip(), value.strip() if sign == ":" else value


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _content(file: Path) -> str:
    try:
        return sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
    except OSError as error:
        raise Rejected(f"--input {file} cannot be read: {error.strerror}") from error


def _print(status: int, content: bytes, output: Output | None) -> None:
    """The answer on standard output, a problem on standard error; sets the exit code."""
    code = of_status(status)
    text = content.decode(errors="replace")
    if output is not None and code is Exit.OK and text:
        _shown(json.loads(text), output)
    else:
        typer.echo(text, nl=not text.endswith("\n") and bool(text), err=code is not Exit.OK)
    if code is not Exit.OK:
        raise typer.Exit(code)


def _shown(value: Any, output: Output) -> None:
    (show_json if output is Output.JSON else show_line)(value)


def _print_pages(client: Client, path: str, headers: Mapping[str, str], output: Output | None) -> None:
    """The items of every page: ndjson as they come, one list otherwise."""
    items = []
    for item in _items(client, path, headers, output):
        if output is Output.NDJSON:
            show_line(item)
        else:
            items.append(item)
    if output is not Output.NDJSON:
        show_json(items)


def _items(client: Client, path: str, headers: Mapping[str, str], output: Output | None) -> Iterator[Any]:
    cursor: str | None = None
    while True:
        asked = path if cursor is None else _asking(path, [("cursor", cursor)])
        status, content, _ = client.exchange("GET", asked, None, headers)
        if of_status(status) is not Exit.OK:
            _print(status, content, output)
        page = json.loads(content)
        if not isinstance(page, dict) or "items" not in page:
            raise Rejected(f"GET {path} gives no pages; leave out --paginate")
        yield from page["items"]
        cursor = page.get("next_cursor")
        if cursor is None:
            return
