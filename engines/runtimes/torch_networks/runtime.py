"""What the runtimes of torch share: they compute on processors, and on NVIDIA's GPUs if torch is built for CUDA."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import TYPE_CHECKING

from engines.runtimes.host import HostRuntime
from engines.runtimes.nvidia.gpus import gpu_environment, gpu_for, gpus, is_gpu, missing_gpu, unavailable
from engines.runtimes.protocol import Where
from engines.runtimes.refusals import unsupported_precision
from engines.runtimes.torch_networks.opener import CPU, CUDA, PACKAGES
from engines.spec.toolchain import version_of

if TYPE_CHECKING:
    from engines.runtimes.candidates import Situation
    from engines.spec.devices import Device

_CUDA_LIBRARY = "lib/libtorch_cuda.so"
_ARCHITECTURE = re.compile(r"(sm|compute)_(\d+)(\d)[a-z]?")


class TorchRuntime(HostRuntime):
    """A runtime of torch."""

    name: str
    title: str
    packages: tuple[str, ...] = PACKAGES

    def available(self, device: Device | None = None) -> str | None:
        """Return None if torch is installed, for the device's GPU if it is one, else what is missing."""
        missing = super().available(device)
        if missing or device is None or not is_gpu(device):
            return missing
        return missing_gpu(device) or missing_cuda()

    def where(self, device: Device) -> Where:
        """Return HERE on a machine with the device's kind of processor or GPU, and a torch that computes there."""
        if not is_gpu(device):
            return super().where(device)
        return Where.DEVICE if missing_for(device) else Where.HERE

    def runs_on(self, device: Device) -> str:
        """Return the name of the GPU or the model of the processor that forms run on here; empty if on none."""
        if not is_gpu(device):
            return super().runs_on(device)
        gpu = gpu_for(device)
        return gpu.name if gpu and self.where(device) is Where.HERE else ""

    def environment(self, target: Device) -> dict[str, str]:
        """Return the versions of what builds and runs; for a GPU, its name and driver, too."""
        return super().environment(target) | (gpu_environment(target) if is_gpu(target) else {})

    def compute_on(self, target: Device, precision: str) -> str:
        """Return torch's name of where forms for a device are built and run, `cpu` or `cuda`.

        Raises:
            EngineFailure: TOOLCHAIN_UNAVAILABLE if the GPU, its driver or torch's build for it is missing here;
                UNSUPPORTED_PRECISION if the GPU has no arithmetic for the precision.
        """
        if not is_gpu(target):
            return CPU
        offered = target.runtimes[self.name].precisions
        if precision not in offered:
            why = f"the catalog lists {', '.join(offered)} for it on {target.id}."
            raise unsupported_precision(self.title, precision, why, "A GPU of a later generation may offer it.")
        if missing := missing_for(target):
            raise unavailable(self.title, target, missing)
        return CUDA


def missing_cuda() -> str | None:
    """Return None if the torch that is installed is built for CUDA, else what is missing. Does not import torch."""
    package = importlib.util.find_spec("torch")
    if package and any((Path(each) / _CUDA_LIBRARY).is_file() for each in package.submodule_search_locations or ()):
        return None
    return f"a CUDA build of torch: {version_of('torch')} is for processors only"


def missing_for(device: Device) -> str | None:
    """Return None if torch computes on a GPU of a device's kind here, else what is missing."""
    if missing := missing_gpu(device) or missing_cuda():
        return missing
    import torch

    if not torch.cuda.is_available():
        here = gpus().found[0].driver
        return f"a driver for CUDA {torch.version.cuda}, for which torch {torch.__version__} is built; here is {here}"
    if not _has_kernels(device.architecture, torch.cuda.get_arch_list()):
        built = ", ".join(torch.cuda.get_arch_list())
        return f"a torch with kernels for {device.architecture}: {torch.__version__} has {built}"
    major, minor = torch.cuda.get_device_capability()
    if f"sm_{major}{minor}" != device.architecture:
        return f"a GPU with {device.architecture} as torch's first one, which has sm_{major}{minor}"
    return None


def half_precisions(now: Situation, runtime: str) -> tuple[str, ...]:
    """Return the precisions in half that a search may try with a runtime of torch, the best first."""
    if not now.allows_half:
        return ()
    if now.target is None or not is_gpu(now.target):
        return ("BF16",)
    return tuple(each for each in ("FP16", "BF16") if each in now.target.runtimes[runtime].precisions)


def _has_kernels(architecture: str, built: list[str]) -> bool:
    """Return whether code for one of some architectures runs on another.

    Machine code runs on the same major version from its own minor version on; PTX (`compute_…`) on all later ones.
    """
    wanted = _ARCHITECTURE.fullmatch(architecture)
    found = [match for name in built if (match := _ARCHITECTURE.fullmatch(name))]
    if wanted is None:
        return False
    major, minor = int(wanted[2]), int(wanted[3])
    return any(
        (int(each[2]) == major and int(each[3]) <= minor)
        if each[1] == "sm"
        else (int(each[2]), int(each[3])) <= (major, minor)
        for each in found
    )
