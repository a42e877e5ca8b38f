"""Whether this machine can confine the children that read strangers' files; asked at the start if it has to."""

from __future__ import annotations

import tempfile
from pathlib import Path

from engines.sandbox import Child
from services.platform.settings import ConfigurationError, Settings


async def require_confinement(settings: Settings) -> None:
    """Refuse to start where the kernel confines no child, if LATHE_SANDBOX is `required`.

    Raises:
        ConfigurationError: It names the protections that are missing, each with the reason.
    """
    if settings.sandbox != "required":
        return
    with tempfile.TemporaryDirectory(prefix="lathe-sandbox-") as folder:
        async with await Child.spawn(Path(folder)) as child:
            await child.ready()
            sandbox = child.sandbox
    if not sandbox.confined:
        raise ConfigurationError(
            f"LATHE_SANDBOX is required, and this machine cannot confine code that models bring: {sandbox.sentence()}. "
            "Run it on a kernel with Landlock and seccomp (Linux 5.13), or where user namespaces are allowed."
        )
