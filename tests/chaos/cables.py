"""Network namespaces in which one process runs, with two cables to the rest, of which one can be cut.

A cut cable is a network interface that is down: packets vanish, and neither side is told. Needs root.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import re
import runpy
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

_CLONE_NEWNET = 0x4000_0000
_PR_SET_PDEATHSIG = 1
_LOCAL = re.compile(r"127\.0\.0\.1:(\d+)")
_libc = ctypes.CDLL(None, use_errno=True)


class Cable:
    """A namespace, and the cables to it.

    Args:
        number: Of the cable; tells their addresses apart.
        variable: Setting with the address of the server that the process reaches by the cable that can be cut; it
            reaches all others by the other one.
    """

    def __init__(self, number: int, variable: str) -> None:
        self._number = number
        self._variable = variable
        thread = threading.Thread(target=self._make)
        thread.start()
        thread.join()
        for name, net in (("cut", 77), ("rest", 78)):
            here = f"{name}{number}"
            self._inside("ip", "link", "add", name, "type", "veth", "peer", "name", here, "netns", str(os.getpid()))
            self._inside("ip", "address", "add", f"10.{net}.{number}.2/24", "dev", name)
            self._inside("ip", "link", "set", name, "up")
            _run("ip", "address", "add", f"10.{net}.{number}.1/24", "dev", here)
            _run("ip", "link", "set", here, "up")
        self._inside("ip", "link", "set", "lo", "up")

    def module(self, folder: Path, module: str) -> str:
        """Write a module to a folder that runs another one inside; return its name."""
        name = f"cut_off_{self._number}"
        folder.mkdir(parents=True, exist_ok=True)
        place = f"/proc/{os.getpid()}/fd/{self._namespace}"
        asked = json.dumps([place, module, self._number, self._variable])
        (folder / f"{name}.py").write_text(f"from tests.chaos.cables import enter\nenter(*{asked})\n", encoding="utf-8")
        return name

    def cut(self) -> None:
        """Let everything vanish that is sent to and from the server."""
        _run("ip", "link", "set", f"cut{self._number}", "down")

    def mend(self) -> None:
        """Undo `cut`."""
        _run("ip", "link", "set", f"cut{self._number}", "up")

    def close(self) -> None:
        """Give up the namespace; it ends with its last process, and the cables with it."""
        os.close(self._namespace)

    def _make(self) -> None:
        if _libc.unshare(_CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "no network namespace can be made here")
        self._namespace = os.open(f"/proc/self/task/{threading.get_native_id()}/ns/net", os.O_RDONLY)

    def _inside(self, *command: str) -> None:
        _run("nsenter", f"--net=/proc/{os.getpid()}/fd/{self._namespace}", *command)


def enter(namespace: str, module: str, number: int, variable: str) -> None:
    """Run a module inside; servers on this machine's loopback are reached through relays at the ends of the cables."""
    ports = {int(port) for value in _settings().values() for port in _LOCAL.findall(value)}
    if not os.fork():
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        asyncio.run(_relay(number, ports, int(os.environ.get("LATHE_PORT") or 0)))
    with open(namespace, "rb") as file:
        if _libc.setns(file.fileno(), _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"{namespace} cannot be entered")
    public = os.environ["LATHE_S3_ENDPOINT"]
    for name, value in _settings().items():
        net = 77 if name == variable else 78
        os.environ[name] = _LOCAL.sub(rf"10.{net}.{number}.1:\1", value)
    os.environ |= {"LATHE_S3_PUBLIC_ENDPOINT": public, "LATHE_AUTH": "open", "LATHE_BIND_HOST": f"10.78.{number}.2"}
    sys.argv = [module]
    runpy.run_module(module, run_name="__main__")


def _settings() -> Mapping[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith("LATHE_")}


async def _relay(number: int, ports: set[int], own: int) -> None:
    """Pass connections on: from the ends of the cables to loopback, and from loopback to the process inside."""
    for port in ports - {own}:
        for net in (77, 78):
            await _listen(f"10.{net}.{number}.1", port, "127.0.0.1")
    if own:
        await _listen("127.0.0.1", own, f"10.78.{number}.2")
    await asyncio.Event().wait()


async def _listen(host: str, port: int, target: str) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            back, forth = await asyncio.open_connection(target, port)
        except OSError:
            writer.close()
            return
        await asyncio.gather(_pump(reader, forth), _pump(back, writer))

    await asyncio.start_server(serve, host, port)


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    try:
        while data := await source.read(1 << 16):
            sink.write(data)
            await sink.drain()
    except OSError:
        pass
    finally:
        sink.close()


def _run(*command: str) -> None:
    subprocess.run(command, check=True)
