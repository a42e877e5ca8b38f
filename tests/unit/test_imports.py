"""What is imported where: the frameworks stay out of every process but the sandboxed child."""

import ast
import graphlib
import json
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

FRAMEWORKS = {"torch", "tensorflow", "openvino", "onnxruntime", "onnx", "onnxscript", "transformers", "sklearn"}
FRAMEWORKS |= {"nncf", "pyarrow", "PIL", "matplotlib", "jinja2", "pycocotools", "tritonclient"}

WITHOUT_NUMPY = {f"services.{name}.main" for name in ("registry", "template", "converter", "quantizer", "optimizer")}
"""API processes that read nothing but specifications."""


def imported_by(statement: str) -> set[str]:
    """Return the top-level packages that a fresh interpreter has loaded after a statement."""
    code = f"import json, sys\n{statement}\nprint(json.dumps([name for name in sys.modules if '.' not in name]))"
    output = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    return set(json.loads(output.splitlines()[-1]))


@pytest.mark.parametrize(
    "module",
    [
        "services.registry.main",
        "services.template.main",
        "services.converter.main",
        "services.quantizer.main",
        "services.optimizer.main",
        "services.evaluator.main",
        "services.worker",
        "services.local.stack",
        "services.cli.main",
        "engines.sandbox",
        "engines.spec.devices",
        "engines.spec.toolchain",
        "engines.api.optimize",
    ],
)
def test_no_framework_is_imported(module: str) -> None:
    lean = {"numpy"} if module in WITHOUT_NUMPY else set()
    assert not imported_by(f"import {module}") & (FRAMEWORKS | lean)


def test_the_rooms_of_runtimes_import_no_framework() -> None:
    loaded = imported_by("from engines.runtimes import runtimes\nassert runtimes()")
    assert not loaded & (FRAMEWORKS | {"tensorrt", "tensorrt_rtx", "ai_edge_litert", "acl"})


def test_the_command_line_starts_without_grpc() -> None:
    assert "grpc" not in imported_by("import services.cli.main")


def test_help_imports_no_framework_and_no_grpc() -> None:
    help_of_all = "from services.cli.main import run\nimport sys\nsys.argv = ['lathe', '--help']\n"
    help_of_all += "try: run()\nexcept SystemExit as end: assert not end.code"
    assert not imported_by(help_of_all) & (FRAMEWORKS | {"grpc"})


def test_openvino_and_nncf_send_no_statistics_of_their_use() -> None:
    loaded = imported_by(
        "import engines\n"
        "from nncf.telemetry import wrapper\n"
        "from openvino.tools.ovc import telemetry_utils\n"
        "assert telemetry_utils.tm.__name__ == 'openvino.tools.ovc.telemetry_stub'\n"
        "assert not isinstance(wrapper.telemetry, wrapper.NNCFTelemetry)"
    )
    assert {"nncf", "openvino"} <= loaded


def _modules() -> dict[str, Path]:
    paths = [path for folder in ("engines", "services") for path in (ROOT / folder).rglob("*.py")]
    return {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in paths}


def _executed(statements: Iterable[ast.stmt]) -> Iterator[ast.Import | ast.ImportFrom]:
    """Yield the imports that run when a module is imported."""
    for statement in statements:
        if isinstance(statement, ast.Import | ast.ImportFrom):
            yield statement
        elif isinstance(statement, ast.If) and ast.unparse(statement.test) == "TYPE_CHECKING":
            yield from _executed(statement.orelse)
        elif not isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
            for part in ("body", "orelse", "finalbody"):
                yield from _executed(getattr(statement, part, []))


def _loads(name: str, path: Path, known: Iterable[str]) -> set[str]:
    """Return the modules that importing a module loads, and the packages that they lie in, except those around it."""
    wanted: set[str] = set()
    for statement in _executed(ast.parse(path.read_text(encoding="utf-8")).body):
        if isinstance(statement, ast.ImportFrom):
            wanted |= {str(statement.module), *(f"{statement.module}.{each.name}" for each in statement.names)}
        else:
            wanted |= {each.name for each in statement.names}
    found = wanted.intersection(known)
    return (found | _around(*found)) - {name} - _around(name)


def _around(*modules: str) -> set[str]:
    return {module.rsplit(".", count)[0] for module in modules for count in range(1, module.count(".") + 1)}


def test_every_module_can_be_imported_first() -> None:
    modules = _modules()
    assert {"engines.quantization.ort_static", "services.registry.main"} <= modules.keys()
    graphlib.TopologicalSorter({name: _loads(name, path, modules) for name, path in modules.items()}).prepare()
