"""What a model's own file tries: the sentence names the attempt, the file and the line, whatever the code does next."""

from __future__ import annotations

import pytest

from engines.failures import FailureReason
from tests.integration.sandbox.conftest import Run

ATTEMPTS = {
    "os.system('id')": "run the shell command 'id'",
    "subprocess.run(['curl', 'example.org'])": "start the program 'curl'",
    "os.popen('id')": "start the program",
    "os.execv('/bin/sh', ['sh'])": "replace the process with the program '/bin/sh'",
    "os.posix_spawn('/bin/sh', ['sh'], {})": "start the program '/bin/sh'",
    "os.fork()": "fork a process",
    "multiprocessing.get_context('fork').Process(target=print).start()": "fork a process",
    "socket.create_connection(('127.0.0.1', 80))": "look up the host '127.0.0.1'",
    "socket.socket()": "open a network socket",
    "urllib.request.urlopen('http://example.org/x')": "fetch 'http://example.org/x'",
    "ctypes.CDLL('libc.so.6')": "load the native library 'libc.so.6'",
    "ctypes.CDLL(None)": "load the native library None",
    "open('/tmp/outside', 'w')": "write '/tmp/outside'",
    "pathlib.Path('/tmp/outside').write_text('x')": "write '/tmp/outside'",
    "os.open('/tmp/outside', os.O_CREAT | os.O_RDWR)": "write '/tmp/outside'",
    "open(os.path.expanduser('~root') + '/.bashrc', 'a')": "/.bashrc'",
    "open('../outside', 'w')": "outside its work directory",
    "os.remove('/etc/hosts')": "remove '/etc/hosts'",
    "os.mkdir('/tmp/outside')": "create the directory '/tmp/outside'",
    "os.rename('net.py', '/tmp/outside')": "move '/tmp/outside'",
    "os.symlink('/etc', '/tmp/outside')": "link '/tmp/outside'",
    "shutil.copy('net.py', '/tmp/outside')": "write '/tmp/outside'",
    "exec('import os; os.system(\"id\")')": "run the shell command 'id'",
    "os.kill(os.getppid(), 9)": "send signal 9",
}
IMPORTS = "import ctypes, multiprocessing, os, pathlib, shutil, socket, subprocess, urllib.request\n"


@pytest.mark.parametrize("attempt", ATTEMPTS)
async def test_an_attempt_is_named_with_its_place(failure: Run, attempt: str) -> None:
    error = await failure("user_code", {"source": IMPORTS + attempt})
    assert error.reason is FailureReason.UNSAFE_MODEL
    assert ATTEMPTS[attempt] in error.message
    assert "(net.py, line 2)" in error.message
    assert error.node == "net.py:2"


async def test_catching_the_exception_does_not_help(failure: Run) -> None:
    source = "import os\ntry:\n    os.system('id')\nexcept BaseException:\n    value = 'nothing happened'"
    error = await failure("user_code", {"source": source})
    assert error.reason is FailureReason.UNSAFE_MODEL
    assert "(net.py, line 3)" in error.message


async def test_leaving_at_once_does_not_help(failure: Run) -> None:
    source = "import os\ntry:\n    os.system('id')\nfinally:\n    os._exit(0)"
    assert (await failure("user_code", {"source": source})).reason is FailureReason.UNSAFE_MODEL


async def test_what_only_the_kernel_sees_is_named_too(failure: Run) -> None:
    error = await failure("user_code", {"source": "\nvalue = open('/etc/shadow').read()"})
    assert error.reason in (FailureReason.UNSAFE_MODEL, FailureReason.INVALID_ARCHITECTURE)
    assert "/etc/shadow" in error.message
    assert "line 2" in error.message


async def test_an_ordinary_error_is_the_architectures(failure: Run) -> None:
    error = await failure("user_code", {"source": "def f():\n    return 1 / 0\nf()"})
    assert error.reason is FailureReason.INVALID_ARCHITECTURE
    assert "net.py, line 2: ZeroDivisionError" in error.message


@pytest.mark.parametrize(
    "source",
    [
        "import ctypes, multiprocessing, socket, subprocess, ssl, uuid, asyncio\nvalue = 1",
        "import tempfile\nwith tempfile.TemporaryFile() as file:\n    file.write(b'x')\nvalue = 1",
        "open('notes.txt', 'w').write('x')\nvalue = 1",
        "open('/dev/null', 'w').write('x')\nvalue = 1",
        "value = len(open('/proc/cpuinfo').read()) > 0 and 1",
        "import numpy as np\nvalue = int(np.arange(2).sum())",
        "import dataclasses, collections\nvalue = collections.namedtuple('P', 'x')(1).x",
        "async def one():\n    return 1\nimport asyncio\nvalue = asyncio.run(one())",
        "import torch\nvalue = int(torch.nn.Linear(1, 1)(torch.ones(1, 1)).numel())",
        "from concurrent.futures import ThreadPoolExecutor as T\nvalue = T(2).submit(int, 1).result()",
    ],
)
async def test_ordinary_code_is_left_alone(run: Run, source: str) -> None:
    assert await run("user_code", {"source": source}) == {"value": 1}
