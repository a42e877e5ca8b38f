"""Class mappings: the classes of a template's taxonomies, for entries that name none."""

from __future__ import annotations

import grpc
from lathe.registry.v1.dataset_service_pb2 import ClassMapping, ClassMappingEntry
from lathe.template.v1.template_service_pb2 import GetTemplateRequest
from lathe.template.v1.template_service_pb2_grpc import TemplateServiceStub

from services.platform.errors import invalid_argument

_FIELD = "dataset.mapping"


class Mappings:
    """Completes class mappings, with what the template service knows."""

    def __init__(self, template_service: grpc.aio.Channel) -> None:
        self._templates = TemplateServiceStub(template_service)

    async def complete(self, mapping: ClassMapping) -> None:
        """Give every entry its classes.

        Raises:
            LatheError: INVALID_ARGUMENT for a task that the template does not have, an entry without classes, and a
                value that is renamed to no class.
            AioRpcError: NOT_FOUND for the template.
        """
        if not mapping.entries:
            raise invalid_argument(
                f"{_FIELD}.entries", "The mapping has no entries: relate a task of the model to a key of the dataset."
            )
        taxonomies = await self._taxonomies(mapping.template) if mapping.template else None
        for number, entry in enumerate(mapping.entries):
            field = f"{_FIELD}.entries[{number}]"
            if taxonomies is not None:
                if entry.task not in taxonomies:
                    raise invalid_argument(f"{field}.task", _unknown(entry.task, mapping.template, list(taxonomies)))
                if not entry.classes:
                    entry.classes.extend(taxonomies[entry.task])
            _check(entry, field)

    async def _taxonomies(self, name: str) -> dict[str, list[str]]:
        template = await self._templates.GetTemplate(GetTemplateRequest(name=name))
        return {taxonomy.task: list(taxonomy.classes) for taxonomy in template.taxonomies}


def _unknown(task: str, template: str, tasks: list[str]) -> str:
    there = f"it has: {', '.join(tasks)}" if tasks else "it has none"
    return f"'{template}' has no classification task '{task}'; {there}."


def _check(entry: ClassMappingEntry, field: str) -> None:
    if not entry.classes:
        raise invalid_argument(
            f"{field}.classes", f"No classes are given for the task '{entry.task}': list them, or name a template."
        )
    known = set(entry.classes)
    for value, meant in entry.values.items():
        if meant not in known:
            raise invalid_argument(
                f"{field}.values",
                f"'{value}' is renamed to '{meant}', which is not a class of the task '{entry.task}'.",
            )
