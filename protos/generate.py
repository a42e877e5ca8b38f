"""Generate stubs and the descriptor set under `gen/`; with `--check`, say whether they are up to date.

Generated code runs with the protobuf and gRPC that it was made for and newer ones. An old generator makes it, as people
who install the stubs have versions of their own. It cannot share an environment with today's protobuf: it has a folder
of its own, installed when it is first needed.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

PROTOS = Path(__file__).parent
ROOT = PROTOS.parent
GEN = PROTOS / "gen"
# What clients get, and what only Lathe's own services and workers have: the client package does not ship it.
PACKAGES = ("lathe", "internal")
INTERNAL = "lathe/internal"
# What KEDA asks of the task services: its stubs are beside those of what services say to each other.
KEDA = "keda/externalscaler.proto"
# Messages that engines read from files of other tools; what is generated is written beside them.
ENGINES = ("engines/formats/caffe/messages.proto", "engines/formats/tensorflow/messages.proto")
# What it makes runs with protobuf 3.20 and newer: tests/unit/test_stubs.py tries the range of protos/pyproject.toml.
GENERATOR = ("grpcio-tools==1.51.3", "protobuf==4.21.12", "setuptools==80.10.2")
README = PROTOS / "README.md"
TABLE_BEGINS, TABLE_ENDS = "<!-- made by generate.py from the protos -->", "<!-- end -->"
ACCESS = re.compile(r"^  rpc (\w+)\(.*\n    option \(lathe\.type\.v1\.access\) = ACCESS_(\w+);", re.MULTILINE)
ROLES = ("AUTHENTICATED", "VIEWER", "EDITOR", "RELEASER", "ADMIN", "OPERATOR")
GENERATOR_FOLDER = PROTOS / ".generator"
# Options in the protos (rules, what a field is for, what a resource is) are extensions of these files. Clients need
# nothing of them but that they can be imported. If another package brought its own copy (protovalidate,
# googleapis-common-protos), that one is taken, as one process cannot hold both.
OPTIONS = "lathe/_options"
OPTION_FILES = {"buf/validate": ("validate",), "google/api": ("field_behavior", "resource")}
CHOOSE = """try:
    from {package} import {module}
except ImportError:
    from lathe._options import {module}
"""


def generate(out: Path) -> None:
    """Write everything that is generated into the folder `out`."""
    gen = out / "gen"
    gen.mkdir()
    protos = sorted(str(path.relative_to(PROTOS)) for path in PROTOS.glob("lathe/**/*.proto"))
    services = [path for path in protos if path.endswith("_service.proto")]
    options = [f"{folder}/{name}.proto" for folder, names in OPTION_FILES.items() for name in names]
    paths = [
        argument for path in ("lathe", *(f"third_party/{each}" for each in options)) for argument in ("--path", path)
    ]
    _run("buf", "generate", *paths, "--output", str(out))  # type stubs
    _generator(f"--python_out={gen}", *protos, *options)
    _generator(f"--grpc_python_out={gen}", *services)
    # With the details of errors, so that proxies can write them as JSON.
    only_public = ("--path", "lathe", "--exclude-path", INTERNAL, "--path", "third_party/google/rpc")
    _run("buf", "build", *only_public, "--as-file-descriptor-set", "--output", str(gen / "lathe/descriptors.binpb"))
    _move_options(gen)
    (gen / "internal/lathe").mkdir(parents=True)
    shutil.move(gen / INTERNAL, gen / "internal" / INTERNAL)
    keda = gen / "internal" / INTERNAL
    _generator(f"--python_out={keda}", f"--pyi_out={keda}", KEDA)
    _generator("-I..", f"--python_out={out}", f"--pyi_out={out}", *(f"../{path}" for path in ENGINES))
    (gen / "lathe/py.typed").touch()
    for stub in gen.rglob("*_pb2_grpc.pyi"):
        if not stub.with_suffix(".py").exists():  # files without a service
            stub.unlink()


def _run(*command: str, **environment: str) -> None:
    subprocess.run(command, cwd=PROTOS, env={**os.environ, **environment}, check=True)


def _generator(*arguments: str) -> None:
    if not GENERATOR_FOLDER.exists():
        pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps")
        with tempfile.TemporaryDirectory(dir=PROTOS) as folder:
            _run(*pip, "--target", folder, *GENERATOR)
            shutil.copytree(folder, GENERATOR_FOLDER)
    protoc = (sys.executable, "-W", "ignore", "-m", "grpc_tools.protoc")
    _run(*protoc, "-I.", "-Ithird_party", *arguments, PYTHONPATH=str(GENERATOR_FOLDER))


def _move_options(gen: Path) -> None:
    """Put the options where no other package has them, and let the stubs import them from there."""
    (gen / OPTIONS).mkdir()
    choices = []
    for folder, names in OPTION_FILES.items():
        package = folder.replace("/", ".")
        for module in (f"{name}_pb2" for name in names):
            choices.append((module, CHOOSE.format(package=package, module=module)))
            for path in (gen / folder).glob(f"{module}.py*"):
                shutil.move(path, gen / OPTIONS / path.name)
            for path in gen.rglob("*_pb2.py"):
                text = path.read_text(encoding="utf-8")
                moved = text.replace(f"from {package} import {module}", f"from lathe._options import {module}")
                path.write_text(moved, encoding="utf-8")
        shutil.rmtree(gen / folder.partition("/")[0])
    named = f"__all__ = {json.dumps(sorted(module for module, _ in choices))}\n"
    text = "\n".join([*(choice for _, choice in choices), named])
    (gen / OPTIONS / "__init__.py").write_text(text, encoding="utf-8")


def access_table() -> str:
    """Return, as Markdown, which role each method takes, by service."""
    rows = []
    for path in sorted(PROTOS.glob("lathe/*/v1/*_service.proto")):
        text = path.read_text(encoding="utf-8")
        if path.match("lathe/internal/*/*") or not (service := re.search(r"^service (\w+)", text, re.MULTILINE)):
            continue
        methods: dict[str, list[str]] = {}
        for name, needed in ACCESS.findall(text):
            methods.setdefault(needed, []).append(name)
        found = (role for role in ROLES if role in methods)
        rows += [f"| {service[1]} | {role} | {', '.join(methods[role])} |" for role in found]
    return "\n".join(["| service | takes | methods |", "|---|---|---|", *rows])


def with_table(text: str) -> str:
    """Return the README with the table as the protos have it now."""
    before, rest = text.split(TABLE_BEGINS, 1)
    return f"{before}{TABLE_BEGINS}\n{access_table()}\n{TABLE_ENDS}{rest.split(TABLE_ENDS, 1)[1]}"


def differences(left: Path, right: Path) -> list[str]:
    """Return the relative paths under which two trees differ, compiled caches aside."""

    def contents(root: Path) -> dict[Path, bytes]:
        found = [path for package in PACKAGES for path in (root / package).rglob("*") if path.is_file()]
        return {path.relative_to(root): path.read_bytes() for path in found if "__pycache__" not in path.parts}

    one, other = contents(left), contents(right)
    return sorted(str(path) for path in {*one, *other} if one.get(path) != other.get(path))


def _engine_files() -> list[str]:
    return [path.replace(".proto", ending) for path in ENGINES for ending in ("_pb2.py", "_pb2.pyi")]


def main() -> int:
    """Regenerate, or check; the exit status is 1 where the committed stubs are stale."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        generate(out)
        if "--check" in sys.argv:
            stale = differences(out / "gen", GEN)
            stale += [name for name in _engine_files() if (out / name).read_bytes() != (ROOT / name).read_bytes()]
            stale += [README.name] if with_table(readme := README.read_text(encoding="utf-8")) != readme else []
            if stale:
                print("What is generated is not what the protos say; run `make gen`:", *stale, sep="\n  ")
            return 1 if stale else 0
        for package in PACKAGES:
            shutil.rmtree(GEN / package, ignore_errors=True)
            shutil.copytree(out / "gen" / package, GEN / package)
        for name in _engine_files():
            shutil.copyfile(out / name, ROOT / name)
    README.write_text(with_table(README.read_text(encoding="utf-8")), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
