"""`lathe top`: devices with their queues and workers, and the tasks that run, live."""

from __future__ import annotations

import datetime
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import typer

from services.cli.client import connect
from services.cli.listing import filter_of, of_project
from services.cli.output import TABLE, Output, OutputFormat, message_json, plain, print_json, print_json_line
from services.cli.task_services import known_kinds
from services.cli.views import doing, enum_name

if TYPE_CHECKING:
    from lathe_client.connection import Connection
    from rich.console import Console, RenderableType
    from rich.table import Table

MOST_TASKS = 200
"""Running tasks that are asked for, of each kind."""
_BAR = 10
_WIDTHS = {
    **{"kind": 12, "task": 36, "name": 22, "owner": 10, "device": 12, "worker": 18},
    **{">for": 8, "progress": 15, "doing": 12},
}
"""Characters of each column of running tasks; the last one gets what is left."""
_DISPENSABLE = ("worker", "owner", "name", "kind", "device")
"""Columns that a narrow terminal does without, the first one first."""
_NARROW = 92
"""Least width of a page that shows all of the queues."""
_SENTENCE = 22
"""Characters of the last column for which other columns make room."""
_LINE = 3
"""Characters between two columns."""


@dataclass
class View:
    """What there is at one moment.

    Attributes:
        devices: Those that have workers or tasks.
        tasks: Those that workers hold, the oldest first.
        missing: Why something is not shown, in sentences.
    """

    devices: list[Any] = field(default_factory=list)
    tasks: list[Any] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    def total(self, figure: str) -> int:
        """Return the sum of a figure over all queues."""
        return sum(getattr(queue, figure) for device in self.devices for queue in device.queues)

    def json(self) -> dict[str, Any]:
        """Return it for scripts."""
        devices = [
            {"name": device.name, "missing": device.missing, "queues": [message_json(queue) for queue in device.queues]}
            for device in self.devices
        ]
        return {"devices": devices, "tasks": [message_json(task) for task in self.tasks], "missing": self.missing}


def top(
    device: Annotated[list[str] | None, typer.Option(help="Only this device, such as cpu-x86-64.")] = None,
    interval: Annotated[float, typer.Option(min=0.5, help="Seconds between two looks.")] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Look once, and end.")] = False,
    output: Output = TABLE,
) -> None:
    """Show devices, queues, workers and running tasks until Ctrl-C.

    If the output is no terminal, it looks once; with -o json and without --once, it prints one line for each look.
    """
    from rich.console import Console
    from rich.live import Live

    devices = device or []
    console = Console()
    with connect() as connection:
        if output is OutputFormat.JSON:
            while not once:
                print_json_line(look(connection, devices).json())
                time.sleep(interval)
            print_json(look(connection, devices).json())
        elif once or not console.is_terminal:
            console.width = console.width if console.is_terminal else max(console.width, 200)
            console.print(show(look(connection, devices), 0, console.width))
        else:
            with Live(console=console, screen=True, auto_refresh=False) as live:
                while True:
                    live.update(show(look_patiently(connection, devices), _rows(console), console.width), refresh=True)
                    time.sleep(interval)


def look(connection: Connection, devices: list[str]) -> View:
    """Return what there is now on some devices, or on all."""
    from lathe.registry.v1.device_service_pb2 import ListDevicesRequest

    view = View()
    names = [f"devices/{name.removeprefix('devices/')}" for name in devices]
    listed = connection.devices.ListDevices(ListDevicesRequest(page_size=1000)).devices
    if unknown := set(names) - {each.name for each in listed}:
        raise typer.BadParameter(f"no device is called {', '.join(sorted(unknown))}; see `lathe devices list`")
    view.devices = [each for each in listed if each.name in names or (not names and _lives(each))]
    silent = {queue.kind for each in listed for queue in each.queues if not queue.known}
    view.missing = [f"The service of {kind} tasks does not answer." for kind in sorted(silent)]
    wanted = filter_of(
        "state = RUNNING OR state = CANCELLING", None, device=[name.rpartition("/")[2] for name in names]
    )
    wanted = of_project(wanted)
    for kind in known_kinds(""):
        if kind.name not in silent:
            page = kind.call(connection, "List", filter=wanted, page_size=MOST_TASKS, order_by="create_time")
            view.tasks += page.tasks
            if page.next_page_token:
                view.missing.append(f"More than {MOST_TASKS} {kind.name} tasks run; these are the oldest.")
    view.tasks.sort(key=lambda task: task.status.start_time.ToNanoseconds())
    return view


def look_patiently(connection: Connection, devices: list[str]) -> View:
    """Return what there is now; if a service does not answer, what it is that is missing."""
    import grpc

    from services.cli.failures import explain_rpc

    try:
        return look(connection, devices)
    except grpc.RpcError as error:
        if error.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
            raise
        return View(missing=[explain_rpc(error).sentence])


def show(view: View, most: int, width: int) -> RenderableType:
    """Return a view as a page.

    Args:
        view: What there is.
        most: Tasks that it has room for; all of them if 0.
        width: Of the page, in characters.
    """
    from rich.console import Group
    from rich.text import Text

    now = datetime.datetime.now().astimezone()
    head = Text.assemble(
        ("Lathe", "bold"),
        f"  {now:%H:%M:%S}   ",
        (f"{view.total('waiting')} waiting", "yellow" if view.total("waiting") else ""),
        "   ",
        (f"{view.total('running')} running", "green" if view.total("running") else ""),
    )
    words = [Text(sentence, style="yellow") for sentence in view.missing]
    left = len(view.tasks) - most if most else 0
    more = [Text(f"and {left} more", style="dim")] if left > 0 else []
    shown = view.tasks[:most] if most else view.tasks
    running = _tasks(shown, now, width) if shown else Text("No task runs.", style="dim")
    return Group(head, *words, Text(), _queues(view.devices, width), Text(), running, *more)


def _rows(console: Console) -> int:
    """Return how many tasks fit on a terminal beside the usual number of queues."""
    return max(5, console.height - 16)


def _lives(device: Any) -> bool:
    return any(queue.workers or queue.waiting or queue.running for queue in device.queues)


def _table(*columns: str) -> Table:
    """Return an empty table; a `>` before a header aligns its column right."""
    from rich.table import Table

    table = Table(show_edge=False, pad_edge=False)
    for column in columns:
        right = column.startswith(">")
        table.add_column(column.removeprefix(">"), justify="right" if right else "left", no_wrap=True)
    return table


def _queues(devices: list[Any], width: int) -> Table:
    narrow = width < _NARROW
    slots, oldest = ([], ">oldest") if narrow else ([">slots"], ">oldest waits")
    table = _table("device", "tasks", ">workers", *slots, ">running", ">waiting", oldest, "")
    for device in devices:
        busy = [queue for queue in device.queues if queue.workers or queue.waiting or queue.running]
        for index, queue in enumerate(busy or device.queues[:1]):
            alone = "[red]no worker[/]" if queue.waiting and not queue.workers and queue.known else ""
            table.add_row(
                plain(device.name.removeprefix("devices/")) if index == 0 else "",
                plain(queue.kind) if busy else "–",
                str(queue.workers),
                *([] if narrow else [str(queue.slots)]),
                _figure(queue.running, "green"),
                _figure(queue.waiting, "yellow"),
                _time(queue.oldest_wait.ToTimedelta()) if queue.HasField("oldest_wait") else "–",
                alone,
            )
    return table


def _tasks(tasks: list[Any], now: datetime.datetime, width: int) -> Table:
    shown = dict(_WIDTHS)
    for header in _DISPENSABLE:
        if sum(shown.values()) - shown["doing"] + _SENTENCE + _LINE * (len(shown) - 1) > width:
            del shown[header]
    shown["doing"] += max(width - sum(shown.values()) - _LINE * (len(shown) - 1), 0)
    table = _table(*shown)
    for column, characters in zip(table.columns, shown.values(), strict=True):
        column.width = characters
    for task in tasks:
        status = task.status
        cancelling = enum_name(status, "state") == "CANCELLING"
        cells = {
            "kind": plain(task.name.partition("Tasks/")[0]),
            "task": plain(task.name.partition("/")[2]),
            "name": plain(task.display_name),
            "owner": plain(task.owner),
            "device": plain(task.device),
            "worker": plain(task.attempts[-1].worker if task.attempts else ""),
            ">for": _time(now - status.start_time.ToDatetime(tzinfo=datetime.UTC)),
            "progress": _bar(status.progress),
            "doing": "[yellow]is being cancelled[/]" if cancelling else plain(doing(task)),
        }
        table.add_row(*(cells[header] for header in shown))
    return table


def _figure(count: int, style: str) -> str:
    return f"[{style}]{count}[/]" if count else "0"


def _bar(progress: float) -> str:
    done = round(min(max(progress, 0.0), 1.0) * _BAR)
    return f"[green]{'━' * done}[/][dim]{'━' * (_BAR - done)}[/] {progress:4.0%}"


def _time(span: datetime.timedelta) -> str:
    return str(datetime.timedelta(seconds=max(0, int(span.total_seconds()))))
