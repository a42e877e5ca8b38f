"""Options and paging of `list` commands."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from typing import Annotated, Any

import typer

from services.cli.output import note

PAGE_SIZE = 200

Search = Annotated[str, typer.Option(help="Search by id and name; ignores case, punctuation and small typos.")]
Mine = Annotated[bool, typer.Option("--mine", help="Only your own.")]
Label = Annotated[list[str] | None, typer.Option(metavar="KEY=VALUE", help="Only resources with this label.")]
OrderBy = Annotated[str, typer.Option(help="Such as 'create_time desc'.")]
Limit = Annotated[int, typer.Option(min=1, help="Most entries to show.")]


Page = Annotated[
    str, typer.Option("--page", metavar="TOKEN", help="Token of the next page, from the end of the previous list.")
]


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
    while True:
        request.page_size = min(limit - len(found), PAGE_SIZE)
        response = call(request)
        found += getattr(response, field)
        request.page_token = response.next_page_token
        if not response.next_page_token or len(found) >= limit:
            return found, response.next_page_token
