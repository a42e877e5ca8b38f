"""Whether this machine can confine the children that read strangers' files; asked at the start."""

from __future__ import annotations

from engines.sandbox import Child, Sandbox
from services.platform.settings import ConfigurationError, Settings
from services.platform.work_folders import temporary_folder


async def confinement(settings: Settings) -> Sandbox:
    """Return the protections that a child of this process gets.

    Raises:
        ConfigurationError: LATHE_SANDBOX is `required`, and the kernel confines no child: it names the protections that
            are missing, each with the reason.
    """
    async with temporary_folder(settings.work_dir) as folder, await Child.spawn(folder) as child:
        await child.ready()
        sandbox = child.sandbox
    if settings.sandbox == "required" and not sandbox.confined:
        raise ConfigurationError(
            f"LATHE_SANDBOX is required, and this machine cannot confine code that models bring: {sandbox.sentence()}. "
            "Run it on a kernel with Landlock and seccomp (Linux 5.13), or allow user namespaces."
        )
    return sandbox


async def require_confinement(settings: Settings) -> None:
    """Refuse to start if the kernel confines no child, and LATHE_SANDBOX is `required`.

    Raises:
        ConfigurationError: As `confinement`.
    """
    if settings.sandbox == "required":
        await confinement(settings)
