import subprocess
import sys

from engines.spec import toolchain

X86 = """processor\t: 0
model name\t: AMD EPYC 9R14
flags\t\t: fpu avx2 avx512f avx512_bf16 sse

processor\t: 1
model name\t: other
"""
ARM = "processor\t: 0\nBogoMIPS\t: 243.75\nFeatures\t: fp asimd i8mm bf16 sve\n"


def test_cpuinfo_of_x86_and_arm() -> None:
    assert toolchain.parse_cpuinfo(X86) == ("AMD EPYC 9R14", ("avx2", "avx512f", "avx512_bf16"))
    assert toolchain.parse_cpuinfo(ARM) == ("", ("asimd", "bf16", "i8mm", "sve"))
    assert toolchain.parse_cpuinfo("") == ("", ())


def test_fingerprint_names_this_machine() -> None:
    fingerprint = toolchain.fingerprint()
    assert fingerprint["machine"]
    assert fingerprint["cpu"] in toolchain.hardware()


def test_versions_of_installed_packages() -> None:
    assert toolchain.version_of("no-such-package") == ""
    names = [entry["name"] for entry in toolchain.software(["pydantic", "no-such-package", "numpy"])]
    assert names == ["numpy", "pydantic"]


def test_no_framework_is_imported_before_it_is_needed() -> None:
    script = (
        "import sys, engines.formats.pytorch.reader, engines.graph.execution, engines.graph.preprocessing, "
        "engines.api.description, engines.formats.pytorch.description, engines.package.description, "
        "engines.spec.devices, engines.spec.toolchain as t\n"
        "t.fingerprint(); t.software(['torch', 'onnx'])\n"
        "print({'torch', 'onnx', 'onnxruntime', 'openvino', 'onnxscript'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
