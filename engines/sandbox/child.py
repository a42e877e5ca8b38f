"""The child process: puts itself into the sandbox, loads what it will need, does one job.

    supervisor      started by the parent in a session of its own; enters namespaces
    └── first       (with a PID namespace) process 1 of it; the kernel kills all others when it ends
        └── worker  puts on Landlock and seccomp, imports the frameworks, runs the job

Supervisor and first run no code but this; they wait, collect orphans and tell the parent how the worker ended. The
layers go on before any framework is imported: Landlock and seccomp bind the thread that calls them and those that it
starts, and frameworks start threads when they are imported.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
from pathlib import Path
from typing import Any

from engines.sandbox import confine, namespaces, syscalls
from engines.sandbox.types import Layer


def main(configuration: dict[str, Any]) -> None:
    """Become a sandboxed child; never returns.

    Args:
        configuration: `parent` (process id), `workdir`, `preload` (modules), `readable` (further directories), and the
            descriptors `requests`, `control` and `status`.
    """
    _die_with(int(configuration["parent"]))
    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    layers = namespaces.enter()
    own_proc = False
    if layers["pid_namespace"].active:
        supervisor = os.getpid()
        first = os.fork()
        if first:
            _wait_for_first(first, configuration)
        _die_with(supervisor, across_namespaces=True)
        own_proc = _prepare_proc(layers)
    _confine_mounts(layers, Path(configuration["workdir"]))
    syscalls.prctl(syscalls.PR_SET_CHILD_SUBREAPER, 1)
    worker = os.fork()
    if worker:
        _supervise(worker, configuration)
    _close(configuration, "status")
    syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
    confine.apply(layers, Path(configuration["workdir"]), configuration["readable"], own_proc=own_proc)
    # Imported late: what reads frames and runs jobs has no place in the supervisor.
    from engines.sandbox.job import serve

    serve(configuration, layers)


def _die_with(parent: int, *, across_namespaces: bool = False) -> None:
    syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
    # A parent outside the PID namespace is seen as 0; one that died before the call above is seen as another.
    if os.getppid() != (0 if across_namespaces else parent):
        os._exit(1)


def _prepare_proc(layers: dict[str, Layer]) -> bool:
    if not layers["mount_namespace"].active:
        return False
    try:
        namespaces.mount_own_proc()
    except OSError as error:
        layers["own_proc"] = Layer(False, str(error.strerror))
        return False
    layers["own_proc"] = Layer(True, "/proc shows the sandbox alone")
    layers["task_limit"] = namespaces.bound_tasks()
    return True


def _confine_mounts(layers: dict[str, Layer], workdir: Path) -> None:
    if layers["mount_namespace"].active:
        try:
            layers["mount_namespace"] = Layer(True, namespaces.confine_mounts(workdir))
        except OSError as error:
            layers["mount_namespace"] = Layer(False, str(error.strerror))


def _wait_for_first(first: int, configuration: dict[str, Any]) -> None:
    _pass_on_stack_requests(first)
    _close(configuration, "requests", "control")
    os.waitpid(first, 0)
    os._exit(0)


def _close(configuration: dict[str, Any], *names: str) -> None:
    for name in names:
        os.close(int(configuration[name]))


def _pass_on_stack_requests(pid: int) -> None:
    """The parent asks its own child for stacks; the worker, which has them, is further down."""
    signal.signal(signal.SIGUSR1, lambda *_: os.kill(pid, signal.SIGUSR1))


def _supervise(worker: int, configuration: dict[str, Any]) -> None:
    """Collect every process that ends; when the worker has, say how and take the rest along."""
    _pass_on_stack_requests(worker)
    _close(configuration, "requests", "control")
    while True:
        pid, state = os.waitpid(-1, 0)
        if pid == worker:
            break
    code = os.waitstatus_to_exitcode(state)
    os.write(int(configuration["status"]), json.dumps({"exit": code}).encode())
    if os.getpid() != 1:
        _kill_orphans()
    os._exit(0)


def _kill_orphans() -> None:
    """Without a PID namespace: what the worker left behind is adopted by this process; kill it all."""
    from engines.sandbox.processes import descendants

    while True:
        for pid in descendants(os.getpid()):
            os.kill(pid, signal.SIGKILL)
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
