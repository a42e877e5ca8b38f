"""Entry functions that misbehave, for the tests of the sandbox. They run in its children only."""
# ruff: noqa: T201 - what a job prints is its log.

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import signal
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from engines.sandbox import Reporter

Values = dict[str, Any]
_TIOCGPTN = 0x80045430  # what number a pseudoterminal has


def echo(request: Values, workdir: Path, report: Reporter) -> Values:
    report.progress(0.5, "half way")
    print("working in", workdir)
    report.progress(1.0, "done")
    return {"echo": request, "cwd": os.getcwd()}


def surroundings(request: Values, workdir: Path, report: Reporter) -> Values:
    """What the child has: its environment, descriptors that lead somewhere, session, umask, stdin."""
    descriptors = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            descriptors[name] = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue
    umask = os.umask(0o077)
    return {
        "environment": dict(os.environ),
        "descriptors": descriptors,
        "umask": umask,
        "stdin": sys.stdin.read(),
        "no_new_privileges": "NoNewPrivs:\t1" in Path("/proc/self/status").read_text(),
        "capabilities": [
            line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("Cap")
        ],
    }


def user_code(request: Values, workdir: Path, report: Reporter) -> Values:
    """Run request["source"] as a model's file is run: from the work directory, with its own name."""
    path = workdir / "net.py"
    path.write_text(request["source"])
    namespace: Values = {"__name__": "net"}
    exec(compile(request["source"], str(path), "exec"), namespace)
    value = namespace.get("value")
    return {"value": value}


def loop_forever(request: Values, workdir: Path, report: Reporter) -> Values:
    report.progress(0.25, "going round")
    while True:
        os.getpid()


def sleep(request: Values, workdir: Path, report: Reporter) -> Values:
    print("sleeping")
    time.sleep(request.get("seconds", 600))
    return {}


def allocate_bytes(request: Values, workdir: Path, report: Reporter) -> Values:
    return {"length": len(bytearray(100 << 30))}


def allocate_numpy(request: Values, workdir: Path, report: Reporter) -> Values:
    import numpy as np

    return {"sum": float(np.ones(100 << 27).sum())}


def allocate_torch(request: Values, workdir: Path, report: Reporter) -> Values:
    import torch

    return {"sum": float(torch.ones(100 << 28).sum())}


def grow(request: Values, workdir: Path, report: Reporter) -> Values:
    kept = []
    while True:
        kept.append(b"x" * (8 << 20))


def grow_in_children(request: Values, workdir: Path, report: Reporter) -> Values:
    for _ in range(4):
        if os.fork() == 0:
            kept = b"x" * (100 << 20)
            time.sleep(600 + len(kept))
    time.sleep(600)
    return {}


def fork_bomb(request: Values, workdir: Path, report: Reporter) -> Values:
    for _ in range(700):
        try:
            if os.fork() == 0:
                time.sleep(600)
        except OSError:
            break
    time.sleep(600)
    return {}


def daemon(request: Values, workdir: Path, report: Reporter) -> Values:
    """Start a process that belongs to nobody, in a session of its own, with every descriptor closed."""
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            os.closerange(0, 256)
            while True:
                (workdir / "alive").write_text(str(time.time()))
                time.sleep(0.01)
        os._exit(0)
    while not (workdir / "alive").exists():
        time.sleep(0.01)
    return {}


def exit_normally(request: Values, workdir: Path, report: Reporter) -> Values:
    sys.exit(7)


def exit_at_once(request: Values, workdir: Path, report: Reporter) -> Values:
    print("last words")
    os._exit(7)


def crash(request: Values, workdir: Path, report: Reporter) -> Values:
    print("about to crash")
    ctypes.string_at(0)
    return {}


def abort(request: Values, workdir: Path, report: Reporter) -> Values:
    os.abort()


def kill_itself(request: Values, workdir: Path, report: Reporter) -> Values:
    os.kill(os.getpid(), signal.SIGKILL)
    return {}


def recurse(request: Values, workdir: Path, report: Reporter) -> Values:
    return recurse(request, workdir, report)


def recurse_natively(request: Values, workdir: Path, report: Reporter) -> Values:
    sys.setrecursionlimit(1 << 30)

    class Deep:
        def __repr__(self) -> str:
            return "".join(map(repr, [self]))

    return {"text": repr(Deep())}


def close_descriptors(request: Values, workdir: Path, report: Reporter) -> Values:
    os.closerange(3, 4096)
    time.sleep(600)
    return {}


def garbage_on_control(request: Values, workdir: Path, report: Reporter) -> Values:
    """Write bytes into every pipe that is open beside stdout and stderr."""
    for descriptor in range(3, 4096):
        try:
            os.write(descriptor, request["garbage"].encode("latin-1"))
        except OSError:
            continue
    time.sleep(600)
    return {}


def flood_log(request: Values, workdir: Path, report: Reporter) -> Values:
    line = "x" * 999 + "\n"
    for _ in range(request["megabytes"]):
        sys.stdout.write(line * 1000)
    return {}


def one_long_line(request: Values, workdir: Path, report: Reporter) -> Values:
    for _ in range(8):
        sys.stdout.write("y" * (1 << 20))
    print()
    return {}


def odd_bytes(request: Values, workdir: Path, report: Reporter) -> Values:
    os.write(1, b"\xff\xfe\x00 caf\xc3\xa9 \xe2\x82\n")
    os.write(2, b"10%\r20%\r30%\rdone\r\n")
    ctypes.CDLL(None).printf(b"from C\n")
    return {}


def not_json(request: Values, workdir: Path, report: Reporter) -> Values:
    return {"value": {1, 2}}


def not_a_dict(request: Values, workdir: Path, report: Reporter) -> Any:
    return 5


def huge_result(request: Values, workdir: Path, report: Reporter) -> Values:
    return {"text": "z" * request["bytes"]}


def many_reports(request: Values, workdir: Path, report: Reporter) -> Values:
    for step in range(10_000):
        report.progress(step / 10_000, "counting")
    return {}


def frameworks(request: Values, workdir: Path, report: Reporter) -> Values:
    """Use torch, ONNX Runtime and OpenVINO as the engines do."""
    import numpy as np
    import onnx
    import onnxruntime
    import openvino
    import torch
    from onnx import TensorProto, helper

    network = torch.nn.Sequential(torch.nn.Linear(8, 4), torch.nn.ReLU()).eval()
    torch.save(network.state_dict(), workdir / "net.pth")
    network.load_state_dict(torch.load(workdir / "net.pth", weights_only=True))
    traced = torch.jit.trace(network, torch.ones(1, 8))  # type: ignore[no-untyped-call]
    frozen = torch.jit.freeze(traced)
    node = helper.make_node("Relu", ["x"], ["y"])
    info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 8]) for name in ("x", "y")]
    graph = helper.make_graph([node], "g", info[:1], info[1:])
    model = helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 17)])
    onnx.save(model, workdir / "net.onnx")
    x = np.linspace(-1, 1, 8, dtype=np.float32)[None]
    session = onnxruntime.InferenceSession(workdir / "net.onnx", providers=["CPUExecutionProvider"])
    core = openvino.Core()
    core.set_property({"CACHE_DIR": str(workdir / "cache")})
    compiled = core.compile_model(core.read_model(workdir / "net.onnx"), "CPU")
    return {
        "torch": frozen(torch.ones(1, 8)).tolist(),
        "onnxruntime": session.run(None, {"x": x})[0].tolist(),
        "openvino": compiled({"x": x})[0].tolist(),
        "cpu": core.get_property("CPU", "FULL_DEVICE_NAME"),
    }


def compile_with_inductor(request: Values, workdir: Path, report: Reporter) -> Values:
    """TorchInductor starts a C++ compiler and loads what it made."""
    import torch

    function = torch.compile(lambda x: torch.relu(x) * 2 + 1)
    return {"value": function(torch.ones(3)).tolist()}


def use_device(request: Values, workdir: Path, report: Reporter) -> Values:
    """Open a device file as drivers' libraries do, and control it."""
    try:
        file = os.open(request["path"], os.O_RDWR)
        return {"number": struct.unpack("i", fcntl.ioctl(file, _TIOCGPTN, bytes(4)))[0]}
    except OSError as error:
        return {"errno": error.errno}


def kernel(request: Values, workdir: Path, report: Reporter) -> Values:
    """Try what the kernel must refuse, by system calls that no hook sees; return each error number, 0 for success."""
    libc = ctypes.CDLL(None, use_errno=True)

    def attempt(call: Callable[[], int]) -> int:
        return ctypes.get_errno() if call() < 0 else 0

    def connect(family: int, address: bytes) -> int:
        descriptor = libc.socket(family, 1, 0)
        return int(descriptor if descriptor < 0 else libc.connect(descriptor, address, len(address)))

    def open_for(flags: int, path: str) -> int:
        return int(libc.open(os.fsencode(path), flags, 0o600))

    local = (1).to_bytes(2, "little") + os.fsencode(request["unix_socket"]) + b"\0"
    inet = (2).to_bytes(2, "little") + int(request["tcp_port"]).to_bytes(2, "big") + bytes([127, 0, 0, 1]) + bytes(8)
    write, read = os.O_WRONLY | os.O_CREAT, os.O_RDONLY
    outcomes = {
        "connect_tcp": attempt(lambda: connect(2, inet)),
        "connect_unix": attempt(lambda: connect(1, local)),
        "write_workdir": attempt(lambda: open_for(write, str(workdir / "inside"))),
        "write_outside": attempt(lambda: open_for(write, request["outside"] + "/new")),
        "write_home": attempt(lambda: open_for(write, request["home"] + "/.lathe-sandbox-test")),
        "write_shm": attempt(lambda: open_for(write, "/dev/shm/lathe-sandbox-test")),
        "read_outside": attempt(lambda: open_for(read, request["outside"] + "/secret")),
        "remove_outside": attempt(lambda: libc.unlink(os.fsencode(request["outside"] + "/secret"))),
        "rename_outside": attempt(
            lambda: libc.rename(os.fsencode(request["outside"] + "/secret"), os.fsencode(str(workdir / "stolen")))
        ),
        "mkdir_outside": attempt(lambda: libc.mkdir(os.fsencode(request["outside"] + "/folder"), 0o700)),
        "read_system": attempt(lambda: open_for(read, "/etc/ld.so.cache")),
        "read_shadow": attempt(lambda: open_for(read, "/etc/shadow")),
        "parent_environ": attempt(lambda: open_for(read, f"/proc/{request['parent']}/environ")),
        "signal_parent": attempt(lambda: libc.kill(request["parent"], 0)),
        "signal_supervisor": attempt(lambda: libc.kill(os.getppid(), signal.SIGKILL)),
        "unshare_user": attempt(lambda: libc.unshare(0x10000000)),
        "ptrace": attempt(lambda: libc.ptrace(16, os.getppid(), 0, 0)),
        "memfd": attempt(lambda: libc.syscall(319 if os.uname().machine == "x86_64" else 279, b"x", 0)),
    }
    interfaces = [line.split(":")[0].strip() for line in _read("/proc/net/dev").splitlines() if ":" in line]
    return {"errors": outcomes, "interfaces": interfaces, "processes": _processes()}


def expendables(request: Values, workdir: Path, report: Reporter) -> Values:
    """How soon the kernel ends this process and one that it starts, once the latter is offered to it."""
    import subprocess

    def score(pid: int | str) -> int:
        return int(Path(f"/proc/{pid}/oom_score_adj").read_text())

    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as started:
        until = time.monotonic() + 60
        while score(started.pid) == score("self") and time.monotonic() < until:
            time.sleep(0.05)
        scores = {"own": score("self"), "started": score(started.pid)}
        started.kill()
    return scores


def _processes() -> list[str]:
    try:
        return sorted(name for name in os.listdir("/proc") if name.isdigit())
    except PermissionError:
        return []


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def main() -> None:
    """Run one job in a child and print what came of it: for tests that need a parent under other conditions."""
    import asyncio

    from engines.failures import EngineFailure
    from engines.sandbox import Child, Limits

    async def run() -> Values:
        child = await Child.spawn(Path(sys.argv[1]), readable=[Path(__file__).parents[2]])
        try:
            await child.ready()
            layers = child.sandbox.describe()
            result = await child.run(
                f"tests.integration.sandbox.{sys.argv[2]}", json.loads(sys.argv[3]), Limits(1 << 30, 200)
            )
        except EngineFailure as failure:
            return {"failure": failure.to_dict()}
        return {"layers": layers, "result": result}

    print(json.dumps(asyncio.run(run())))


if __name__ == "__main__":
    main()
