"""What projects use of the object store."""

from __future__ import annotations

from lathe.registry.v1.storage_service_pb2 import (
    ListProjectUsagesRequest,
    ListProjectUsagesResponse,
    ProjectUsage,
    StoredBytes,
)

from services.database.pool import Database
from services.platform.access import readable
from services.resources.paging import Position, decode_token, encode_token, page_size

__all__ = ["Usages"]

_PAGE = """
    SELECT * FROM project_usages WHERE project > $1 AND ($2::text[] IS NULL OR project = ANY ($2))
    ORDER BY project LIMIT $3
"""


class Usages:
    """Reads what the last collection measured."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(self, request: ListProjectUsagesRequest) -> ListProjectUsagesResponse:
        """Return one page of the projects that the caller may see, and the token of the next.

        Raises:
            LatheError: INVALID_ARGUMENT for a token that this did not return.
        """
        size, query = page_size(request.page_size), request.DESCRIPTOR.full_name
        after = decode_token(request.page_token, query, [str]).values[0] if request.page_token else ""
        rows = await self._database.fetch(_PAGE, after, readable(), size + 1)
        response = ListProjectUsagesResponse()
        for row in rows[:size]:
            stored = StoredBytes(files=row["files"], bytes=row["bytes"])
            usage = ProjectUsage(project=row["project"], stored=stored)
            usage.measure_time.FromDatetime(row["measure_time"])
            response.project_usages.append(usage)
        if len(rows) > size:
            response.next_page_token = encode_token(Position((rows[size - 1]["project"],)), query)
        return response
