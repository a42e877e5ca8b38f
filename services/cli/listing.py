"""Options that every `list` command has, and the pages behind it."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import Annotated, Any

import typer

PAGE_SIZE = 200

Search = Annotated[str, typer.Option(help="Find by id and name; case, punctuation and small slips do not matter.")]
Mine = Annotated[bool, typer.Option("--mine", help="Only your own.")]
Label = Annotated[list[str] | None, typer.Option(metavar="KEY=VALUE", help="Only those with this label.")]
OrderBy = Annotated[str, typer.Option(help="Such as 'create_time desc'.")]
Limit = Annotated[int, typer.Option(min=1, help="Most entries to show.")]


def pages(call: Callable[[Any], Any], request: Any, field: str, limit: int) -> list[Any]:
    """Return up to `limit` resources: the list `field` of each response, page after page."""

    def walk() -> Any:
        while True:
            request.page_size = min(limit, PAGE_SIZE)
            response = call(request)
            yield from getattr(response, field)
            if not response.next_page_token:
                return
            request.page_token = response.next_page_token

    return list(islice(walk(), limit))
