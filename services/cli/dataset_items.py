"""`lathe datasets items`, `warnings`, `preview` and `download`: show and download the contents of a dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated
from uuid import uuid4

import typer

from services.cli.client import connect
from services.cli.dataset_views import ITEMS, WARNING_ROWS
from services.cli.listing import Limit, Page, pages
from services.cli.names import dataset_name, item_name
from services.cli.output import TABLE, Output, OutputFormat, note, print_json, print_rows, show_message, show_messages

DatasetArgument = Annotated[str, typer.Argument(metavar="DATASET", help="Such as 'digits'.")]


def items(
    dataset: DatasetArgument,
    filter_: Annotated[
        str,
        typer.Option(
            "--filter", metavar="TEXT", help="Such as 'classifications.digit = 7 AND width > 64 AND -label:truck'."
        ),
    ] = "",
    limit: Limit = 50,
    page: Page = "",
    output: Output = TABLE,
) -> None:
    """List the items of a dataset."""
    from lathe.registry.v1.dataset_service_pb2 import ListDatasetItemsRequest

    request = ListDatasetItemsRequest(parent=dataset_name(dataset), filter=filter_)
    with connect() as connection:
        show_messages(pages(connection.datasets.ListDatasetItems, request, "items", limit, page), ITEMS, output)


def warnings(
    dataset: DatasetArgument,
    limit: Limit = 50,
    skip: Annotated[int, typer.Option(min=0, help="Number of warnings to skip.")] = 0,
    output: Output = TABLE,
) -> None:
    """List every record that the import of a dataset left out or changed, with its file and place."""
    from lathe.registry.v1.dataset_service_pb2 import GetDatasetRequest

    with connect() as connection:
        report = connection.datasets.GetDataset(GetDatasetRequest(name=dataset_name(dataset))).report
    numbered = list(enumerate(report.warnings, 1))[skip : skip + limit]
    if output is OutputFormat.JSON:
        print_json([sentence for _, sentence in numbered])
    else:
        print_rows(numbered, WARNING_ROWS, empty="No warnings." if not report.warnings else "No more warnings.")
    after = skip + len(numbered)
    if after < len(report.warnings):
        note(f"{len(report.warnings) - after:,} more: --skip {after}")
    elif report.more_warnings:
        note(f"{report.more_warnings:,} more were only counted; a dataset keeps the first {len(report.warnings):,}.")


def preview(
    item: Annotated[str, typer.Argument(metavar="DATASET/NUMBER", help="Such as 'digits/7'.")],
    file: Annotated[
        Path | None, typer.Option("--file", "-f", help="File for the PNG; named after the item if not given.")
    ] = None,
    output: Output = TABLE,
) -> None:
    """Download an item's image with its annotations drawn; for tensors, show the annotations."""
    from lathe.registry.v1.dataset_service_pb2 import PreviewDatasetItemRequest
    from lathe_client.transfers import download_url

    name = item_name(item)
    with connect() as connection:
        found = connection.datasets.PreviewDatasetItem(PreviewDatasetItemRequest(name=name))
    show_message(found if output is OutputFormat.JSON else found.item, ITEMS, output)
    if found.annotated_url:
        target = file or Path(name.removeprefix("datasets/").replace("/items/", "-") + ".png")
        download_url(found.annotated_url, target)
        note(f"{target}")


def download(
    dataset: DatasetArgument,
    file: Annotated[
        Path | None,
        typer.Option("--file", "-f", help="File for the zip file; named after the dataset by default."),
    ] = None,
    output: Output = TABLE,
) -> None:
    """Download a dataset as a zip file (annotations.jsonl and its files) that can be imported again."""
    from lathe.registry.v1.dataset_service_pb2 import CreateDatasetExportRequest, WatchDatasetExportRequest
    from lathe_client.calls import repeated
    from lathe_client.transfers import download_file

    from services.cli.progress import finished
    from services.cli.transfers import byte_progress

    name = dataset_name(dataset)
    target = file or Path(f"{name.removeprefix('datasets/')}.zip")
    request = CreateDatasetExportRequest(parent=name, request_id=str(uuid4()))
    with connect() as connection:
        begun = repeated(connection.datasets.CreateDatasetExport, request)
        watch = WatchDatasetExportRequest(name=begun.name)
        archive = finished(connection.datasets.WatchDatasetExport, watch, "packing").archive
        with byte_progress("downloading", archive.digest.size_bytes) as on_bytes:
            download_file(connection, archive.digest, target, on_bytes)
    if output is OutputFormat.JSON:
        print_json({"file": str(target), "sha256": archive.digest.sha256, "size_bytes": archive.digest.size_bytes})
    note(f"{target}")
