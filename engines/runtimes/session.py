"""Sessions over what a runtime's opener returned: the same code that packages carry, with failures in words."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from engines.failures import EngineFailure, FailureReason
from engines.runtimes.emulator import Emulator
from engines.runtimes.opened import CallTimes, OpenedForm, UnfitMachineError, set_up_process
from engines.runtimes.protocol import BuiltForm, Session
from engines.runtimes.refusals import crashed
from engines.tensors import Array, Arrays

Opener = Callable[[str, Mapping[str, str], int], OpenedForm]


class OpenedSession(Session):
    """A session of any runtime.

    Args:
        title: Name of the runtime in failures.
        opened: The form, open.
        outputs: Names of the outputs, in order; if empty, those that the opened file states.
    """

    def __init__(self, title: str, opened: OpenedForm, outputs: Sequence[str] = ()) -> None:
        self._title, self._opened = title, opened
        self._outputs = tuple(opened.outputs or outputs)
        self.requests = opened.requests

    def run(self, inputs: Mapping[str, Array]) -> Arrays:
        """Return every output by name."""
        try:
            values = self._opened.run(_contiguous(inputs))
        except Exception as error:
            raise crashed(self._title, "run the model", error) from error
        return self._named(values)

    def timed(self, inputs: Mapping[str, Array]) -> tuple[Arrays, CallTimes]:
        """Return the outputs of a call, and its times."""
        try:
            values, times = self._opened.timed(_contiguous(inputs))
        except Exception as error:
            raise crashed(self._title, "run the model", error) from error
        return self._named(values), times

    def run_many(self, feeds: Sequence[Mapping[str, Array]]) -> list[Arrays]:
        """Return the outputs of many calls, in order."""
        kept = [_contiguous(feed) for feed in feeds]  # streams read them until their calls end
        try:
            found = self._opened.run_many(kept)
        except Exception as error:
            raise crashed(self._title, "run the model", error) from error
        return [self._named(values) for values in found]

    def close(self) -> None:
        """Release the runtime, its threads and its memory."""
        self._opened.close()

    def _named(self, values: Sequence[Array]) -> Arrays:
        return dict(zip(self._outputs, values, strict=True))


def open_session(
    title: str,
    open_file: Opener,
    form: BuiltForm,
    threads: int,
    translate: Callable[[Exception], Exception] | None = None,
    *,
    emulator: Emulator | None = None,
) -> OpenedSession:
    """Set the process up as a form says, and open the form.

    Args:
        title: Name of the runtime in failures.
        open_file: The runtime's opener.
        form: The form.
        threads: Most threads; the form may take fewer.
        translate: Makes a failure of an exception that the runtime raised; a crash of the runtime if not given.
        emulator: Where the opener runs if not in this process.

    Raises:
        EngineFailure: UNSUPPORTED_PRECISION if this machine cannot run the form, and what `translate` makes.
    """
    try:
        if emulator is not None:
            module = open_file.__module__.removeprefix(f"{__package__}.")
            opened = emulator.open(module, str(form.entry), form.options, threads)
        else:
            opened = open_file(str(form.entry), form.options, set_up_process(form.options, threads))
    except UnfitMachineError as error:
        raise EngineFailure(
            FailureReason.UNSUPPORTED_PRECISION,
            f"{title}: {error}.",
            suggested_fix="Build it on a machine like the one that serves it, or choose another runtime.",
        ) from error
    except Exception as error:
        raise (translate(error) if translate else crashed(title, "load the model", error)) from error
    return OpenedSession(title, opened, form.outputs)


def _contiguous(inputs: Mapping[str, Array]) -> Arrays:
    """Return the inputs as the C-contiguous arrays that runtimes read without a copy of their own."""
    return {name: np.asarray(value, order="C") for name, value in inputs.items()}
