"""A worker for tasks of every kind: `LATHE_DEVICE=cpu-x86-64 python -m services.worker`."""

from services.converter.work import ConversionWorkKind
from services.evaluator.work import EvaluationWorkKind
from services.optimizer.profiles.work import ProfileWorkKind
from services.optimizer.work import OptimizationWorkKind
from services.quantizer.work import QuantizationWorkKind
from services.tasks.worker.process import run_worker

KINDS = (ConversionWorkKind, QuantizationWorkKind, OptimizationWorkKind, ProfileWorkKind, EvaluationWorkKind)

if __name__ == "__main__":
    run_worker(KINDS)
