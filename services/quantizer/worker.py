"""A worker for quantizations: `LATHE_DEVICE=cpu-x86-64 python -m services.quantizer.worker`."""

from services.common.tasks.worker_process import run_worker
from services.quantizer.work import QuantizationWorkKind

if __name__ == "__main__":
    run_worker("worker-quantization", QuantizationWorkKind)
