"""A worker for evaluations: `LATHE_DEVICE=cpu-x86-64 python -m services.evaluator.worker`."""

from services.evaluator.work import EvaluationWorkKind
from services.tasks.worker.process import run_worker

if __name__ == "__main__":
    run_worker("worker-evaluation", EvaluationWorkKind)
