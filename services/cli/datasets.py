"""`lathe datasets`: annotated images and tensors for calibration and evaluation."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from services.cli.client import connect
from services.cli.dataset_items import DatasetArgument, download, items, preview, warnings
from services.cli.dataset_views import DATASETS, ONE_DATASET, show_report, show_values
from services.cli.exit_codes import ExitCode
from services.cli.failures import CliError
from services.cli.listing import Filter, Label, Limit, Mine, OrderBy, Page, Search, filter_of, pages
from services.cli.names import dataset_name, parse_labels
from services.cli.options import NewLabels, mask_of
from services.cli.output import TABLE, Output, OutputFormat, note, print_json, show_message, show_messages

if TYPE_CHECKING:
    from lathe_client.connection import Connection

datasets = typer.Typer(help="Datasets: annotated images, or tensors.", no_args_is_help=True)

Yes = Annotated[bool, typer.Option("--yes", "-y", help="Continue if the class mapping does not fit.")]
Description = Annotated[str, typer.Option(help="Description of at most 1000 characters.")]
Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until the import ends.")]


@datasets.command("create")
def create(
    name: Annotated[str, typer.Argument(help="Unique display name, from which the id is made.")],
    paths: Annotated[list[Path], typer.Argument(help="One archive or folder, or the files.")],
    format_: Annotated[str, typer.Option("--format", help="IMAGE_FOLDER, COCO…; detected if not given.")] = "",
    type_: Annotated[str, typer.Option("--type", help="CLASSIFICATION, DETECTION…; detected if not given.")] = "",
    mapping: Annotated[Path | None, typer.Option(help="YAML or JSON file of a class mapping.")] = None,
    template: Annotated[str, typer.Option(help="Template whose taxonomies have the classes of the mapping.")] = "",
    map_: Annotated[
        list[str] | None, typer.Option("--map", metavar="TASK=KEY", help="Map a key of the dataset to a task.")
    ] = None,
    description: Description = "",
    label: NewLabels = None,
    yes: Yes = False,
    wait: Wait = True,
    output: Output = TABLE,
) -> None:
    """Upload files and import them as a dataset. A folder is packed first.

    The exit code is 0 if the dataset is ready, 5 if the import failed, 7 if it waits for confirmation.
    """
    from lathe.registry.v1.dataset_service_pb2 import CreateDatasetRequest, Dataset, DatasetFormat, DatasetType

    from services.cli.dataset_inputs import class_mapping, upload_paths

    dataset = Dataset(
        display_name=name,
        description=description,
        labels=parse_labels(label or []),
        format=_value(DatasetFormat, format_, "--format"),
        type=_value(DatasetType, type_, "--type"),
        mapping=class_mapping(mapping, template, map_ or []),
    )
    with connect() as connection:
        dataset.files.extend(upload_paths(connection, paths))
        made = connection.datasets.CreateDataset(CreateDatasetRequest(dataset=dataset, accept_mismatches=yes))
        _see_to(connection, made, yes=yes, wait=wait, output=output)


@datasets.command("derive")
def derive(
    name: Annotated[str, typer.Argument(help="Unique display name, from which the id is made.")],
    sources: Annotated[list[str], typer.Argument(metavar="DATASET...", help="Merged in this order.")],
    steps: Annotated[Path | None, typer.Option(help="YAML or JSON file with `steps`, which run first.")] = None,
    merge: Annotated[list[str] | None, typer.Option(metavar="KEY:A,B=INTO", help="Merge classes.")] = None,
    drop: Annotated[list[str] | None, typer.Option(metavar="KEY:A,B", help="Drop classes.")] = None,
    keep: Annotated[list[str] | None, typer.Option(metavar="KEY=A,B", help="Keep items with these values.")] = None,
    exclude: Annotated[list[str] | None, typer.Option(metavar="KEY=A,B", help="Drop items with these values.")] = None,
    sample: Annotated[int, typer.Option(min=0, help="Keep this many items, chosen at random.")] = 0,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the sample.")] = 0,
    stratify_by: Annotated[str, typer.Option(metavar="KEY", help="Keep the proportions of this key's values.")] = "",
    description: Description = "",
    label: NewLabels = None,
    wait: Wait = True,
    output: Output = TABLE,
) -> None:
    """Create a dataset from the items of others: merged, filtered, sampled. No image is copied."""
    from lathe.registry.v1.dataset_service_pb2 import Dataset, Derivation, DeriveDatasetRequest, SampleItems

    from services.cli.dataset_inputs import steps_of

    sampled = SampleItems(count=sample, seed=seed, stratify_by=stratify_by) if sample else None
    derivation = Derivation(
        sources=[dataset_name(source) for source in sources],
        steps=steps_of(steps, merge or [], drop or [], keep or [], exclude or [], sampled),
    )
    dataset = Dataset(
        display_name=name, description=description, labels=parse_labels(label or []), derivation=derivation
    )
    with connect() as connection:
        made = connection.datasets.DeriveDataset(DeriveDatasetRequest(dataset=dataset))
        _see_to(connection, made, yes=True, wait=wait, output=output)


@datasets.command("confirm")
def confirm(dataset: DatasetArgument, wait: Wait = True, output: Output = TABLE) -> None:
    """Continue an import although the class mapping does not fit."""
    from lathe.registry.v1.dataset_service_pb2 import ConfirmDatasetImportRequest

    with connect() as connection:
        request = ConfirmDatasetImportRequest(name=dataset_name(dataset))
        _see_to(connection, connection.datasets.ConfirmDatasetImport(request), yes=True, wait=wait, output=output)


@datasets.command()
def cancel(dataset: DatasetArgument, output: Output = TABLE) -> None:
    """Stop an import for good."""
    from lathe.registry.v1.dataset_service_pb2 import CancelDatasetImportRequest

    with connect() as connection:
        request = CancelDatasetImportRequest(name=dataset_name(dataset))
        show_message(connection.datasets.CancelDatasetImport(request), ONE_DATASET, output)


@datasets.command("list")
def list_datasets(
    search: Search = "",
    mine: Mine = False,
    label: Label = None,
    type_: Annotated[str, typer.Option("--type", help="Only those of this type.")] = "",
    state: Annotated[str, typer.Option(help="Only those in this state, such as READY.")] = "",
    filter_: Filter = "",
    order_by: OrderBy = "",
    limit: Limit = 50,
    page: Page = "",
    output: Output = TABLE,
) -> None:
    """List datasets."""
    from lathe.registry.v1.dataset_service_pb2 import ListDatasetsRequest

    request = ListDatasetsRequest(
        search=search,
        mine_only=mine,
        filter=filter_of(filter_, label, type=type_.upper(), state=state.upper()),
        order_by=order_by,
    )
    with connect() as connection:
        show_messages(pages(connection.datasets.ListDatasets, request, "datasets", limit, page), DATASETS, output)


@datasets.command("get")
def get(dataset: DatasetArgument, output: Output = TABLE) -> None:
    """Show a dataset: its classes, its attributes, and what its import left out."""
    from lathe.registry.v1.dataset_service_pb2 import GetDatasetRequest

    with connect() as connection:
        found = connection.datasets.GetDataset(GetDatasetRequest(name=dataset_name(dataset)))
    show_message(found, ONE_DATASET, output)
    if output is OutputFormat.TABLE:
        show_values(found)
        if found.HasField("report"):
            show_report(found.report, found.name)


@datasets.command("update")
def update(
    dataset: DatasetArgument,
    name: Annotated[str | None, typer.Option(help="New display name.")] = None,
    description: Annotated[str | None, typer.Option()] = None,
    label: Annotated[list[str] | None, typer.Option(metavar="KEY=VALUE", help="Replaces all labels.")] = None,
    output: Output = TABLE,
) -> None:
    """Change a dataset's name, description or labels."""
    from lathe.registry.v1.dataset_service_pb2 import Dataset, UpdateDatasetRequest

    given = {"display_name": name, "description": description, "labels": label}
    changed = Dataset(
        name=dataset_name(dataset),
        display_name=name or "",
        description=description or "",
        labels=parse_labels(label or []),
    )
    request = UpdateDatasetRequest(dataset=changed, update_mask=mask_of(given))
    with connect() as connection:
        show_message(connection.datasets.UpdateDataset(request), ONE_DATASET, output)


@datasets.command("delete")
def delete(dataset: DatasetArgument, output: Output = TABLE) -> None:
    """Delete a dataset and stop its import. Fails while a task uses it. Its name is never reused."""
    from lathe.registry.v1.dataset_service_pb2 import DeleteDatasetRequest

    name = dataset_name(dataset)
    with connect() as connection:
        connection.datasets.DeleteDataset(DeleteDatasetRequest(name=name))
    if output is OutputFormat.JSON:
        print_json({"deleted": name})
    note(f"deleted {dataset}")


datasets.command("items")(items)
datasets.command("warnings")(warnings)
datasets.command("preview")(preview)
datasets.command("download")(download)


def _see_to(connection: Connection, dataset: Any, *, yes: bool, wait: bool, output: OutputFormat) -> None:
    """Wait for the end of an import if requested, and exit with its exit code."""
    from services.cli.importing import finish

    if not wait:
        show_message(dataset, ONE_DATASET, output)
        return
    raise typer.Exit(finish(connection, dataset, yes=yes, output=output))


def _value(enum: Any, word: str, option: str) -> Any:
    """Return the number of an enum's value; 0 for an empty word."""
    from services.platform.words import number, words

    names = words(enum)
    if word and word.upper() not in names:
        raise CliError(f"{option} {word!r} must be one of: {', '.join(names)}.", ExitCode.USAGE)
    return number(enum, word.upper()) if word else 0
