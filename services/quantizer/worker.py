"""A worker for quantizations: `LATHE_DEVICE=cpu-x86-64 python -m services.quantizer.worker`."""

from services.quantizer.work import QuantizationWorkKind
from services.tasks.worker.process import run_worker

if __name__ == "__main__":
    run_worker("worker-quantization", QuantizationWorkKind)
