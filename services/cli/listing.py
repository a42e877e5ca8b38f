"""Options and paging of `list` commands."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer

from services.cli.names import parse_labels
from services.cli.options import current_options
from services.cli.output import note

PAGE_SIZE = 200

Search = Annotated[str, typer.Option(help="Search by id and name; ignores case, punctuation and small typos.")]
Mine = Annotated[bool, typer.Option("--mine", help="Only your own.")]
Label = Annotated[list[str] | None, typer.Option(metavar="KEY=VALUE", help="Only resources with this label.")]
Filter = Annotated[
    str,
    typer.Option(
        "--filter", metavar="TEXT", help="Such as 'owner = ada AND create_time > 2026-05-31'; see protos/README.md."
    ),
]
OrderBy = Annotated[str, typer.Option(help="Such as 'create_time desc'.")]
Limit = Annotated[int, typer.Option(min=1, help="Most entries to show.")]


Page = Annotated[
    str, typer.Option("--page", metavar="TOKEN", help="Token of the next page, from the end of the previous list.")
]


def filter_of(written: str, label: Sequence[str] | None, **wanted: str | Sequence[str]) -> str:
    """Return the filter for what `--filter` and the other options of a list ask for.

    Args:
        written: The `--filter`.
        label: `key=value` of each `--label`.
        wanted: What a field must be; one of several, if it is a sequence. Empty ones ask for nothing.
    """
    asked = [f"labels.{quoted(key)} = {quoted(value)}" for key, value in parse_labels(list(label or [])).items()]
    for field, values in wanted.items():
        either = " OR ".join(quoted(value) for value in ([values] if isinstance(values, str) else values) if value)
        asked += [f"{field}:({either})"] if either else []
    return " AND ".join([f"({written})" if asked else written, *asked] if written.strip() else asked)


def quoted(text: str) -> str:
    """Return a text as a filter takes it literally, without wildcards."""
    escaped = "".join(f"\\{letter}" if letter in '\\"*' else letter for letter in text)
    return f'"{escaped}"'


def pages(call: Callable[[Any], Any], request: Any, field: str, limit: int, page: str = "") -> list[Any]:
    """Return up to `limit` resources; if there are more, tell on stderr how to show them."""
    found, following = read(call, request, field, limit, page)
    if following:
        note(f"There are more: show the next with --page {shlex.quote(following)}, or more at once with --limit.")
    return found


def read(call: Callable[[Any], Any], request: Any, field: str, limit: int, page: str = "") -> tuple[list[Any], str]:
    """Return up to `limit` resources and the token of the next page, empty at the end.

    Args:
        call: The method.
        request: Its request.
        field: Name of the list in its response.
        limit: Most resources.
        page: Token to start at; the first page if empty.
    """
    found: list[Any] = []
    request.page_token = page
    if project := current_options().project:
        _restrict(request, field, project)
    while True:
        request.page_size = min(limit - len(found), PAGE_SIZE)
        response = call(request)
        found += getattr(response, field)
        request.page_token = response.next_page_token
        if not response.next_page_token or len(found) >= limit:
            return found, response.next_page_token


def _restrict(request: Any, field: str, project: str) -> None:
    """Ask for the resources of a project alone, if these say theirs; templates that came with Lathe are everybody's."""
    file, noun = request.DESCRIPTOR.file, request.DESCRIPTOR.name.removesuffix("Request")
    entry = file.message_types_by_name[f"{noun}Response"].fields_by_name[field].message_type
    if "project" not in entry.fields_by_name:
        return
    only = f"project = {quoted(project)}"
    if "built_in" in entry.fields_by_name:
        only = f"({only} OR built_in = true)"
    request.filter = _both(request.filter, only)


def of_project(wanted: str) -> str:
    """Return a filter of tasks that asks for those of the project alone that the command names, if it does."""
    project = current_options().project
    return _both(wanted, f"project = {quoted(project)}") if project else wanted


def _both(wanted: str, only: str) -> str:
    return f"({wanted}) AND {only}" if wanted.strip() else only
