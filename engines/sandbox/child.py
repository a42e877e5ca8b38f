"""The child process: enters the sandbox, imports the needed modules, does one job.

    supervisor      started by the parent in its own session; enters namespaces
    └── first       (with a PID namespace) process 1 in it; the kernel kills all others when it ends
        └── worker  enables Landlock and seccomp, imports the frameworks, runs the job

Supervisor and first run no other code; they wait, reap orphans and report to the parent how the worker ended. The
layers are enabled before any framework is imported: Landlock and seccomp bind the calling thread and its children, and
frameworks start threads on import.
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
        configuration: `parent` (process id), `workdir`, `preload` (modules), `readable` (further directories),
            `devices` (patterns of accelerators' files), and the descriptors `requests`, `control` and `status`.
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
    workdir, readable, devices = Path(configuration["workdir"]), configuration["readable"], configuration["devices"]
    confine.apply(layers, workdir, readable, devices, own_proc=own_proc)
    # Imported late: the supervisor must not read frames or run jobs.
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
    """Pass the parent's request for stacks on to the worker."""
    signal.signal(signal.SIGUSR1, lambda *_: os.kill(pid, signal.SIGUSR1))


def _supervise(worker: int, configuration: dict[str, Any]) -> None:
    """Reap every process that ends; when the worker has ended, report how, and kill the rest."""
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
    """Kill the processes that the worker left behind, which this process adopts if there is no PID namespace."""
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
