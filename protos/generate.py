"""Generate stubs and the descriptor set under `gen/`; with `--check`, say whether they are up to date."""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

PROTOS = Path(__file__).parent
GEN = PROTOS / "gen"
PACKAGES = ("lathe", "buf")


def generate(out: Path) -> None:
    """Write everything that is generated into the folder `out`."""

    def run(*command: str) -> None:
        subprocess.run(command, cwd=PROTOS, check=True)

    run("buf", "generate", "--path", "lathe", "--path", "third_party/buf", "--output", str(out))
    services = sorted(str(path.relative_to(PROTOS)) for path in PROTOS.glob("lathe/*/v1/*_service.proto"))
    run("python-grpc-tools-protoc", "-I.", "-Ithird_party", f"--grpc_python_out={out / 'gen'}", *services)
    run(
        "buf",
        "build",
        "--path",
        "lathe",
        "--as-file-descriptor-set",
        "--output",
        str(out / "gen/lathe/descriptors.binpb"),
    )
    for package in PACKAGES:
        (out / "gen" / package / "py.typed").touch()
        for stub in (out / "gen" / package).rglob("*_pb2_grpc.pyi"):
            if not stub.with_suffix(".py").exists():  # files without a service
                stub.unlink()


def differences(left: Path, right: Path) -> list[str]:
    """Return the relative paths under which two trees differ, compiled caches aside."""

    def contents(root: Path) -> dict[Path, bytes]:
        found = [path for package in PACKAGES for path in (root / package).rglob("*") if path.is_file()]
        return {path.relative_to(root): path.read_bytes() for path in found if "__pycache__" not in path.parts}

    one, other = contents(left), contents(right)
    return sorted(str(path) for path in {*one, *other} if one.get(path) != other.get(path))


def main() -> int:
    """Regenerate, or check; the exit status is 1 where the committed stubs are stale."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        generate(out)
        if "--check" in sys.argv:
            stale = differences(out / "gen", GEN)
            if stale:
                print("protos/gen is not what the protos say; run `make gen`:", *stale, sep="\n  ")
            return 1 if stale else 0
        for package in PACKAGES:
            shutil.rmtree(GEN / package, ignore_errors=True)
            shutil.copytree(out / "gen" / package, GEN / package)
    return 0


if __name__ == "__main__":
    sys.exit(main())
