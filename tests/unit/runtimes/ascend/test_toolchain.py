"""What a worker's start-up check finds of CANN."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest

from engines.runtimes import runtimes
from engines.runtimes.ascend import toolchain
from engines.runtimes.ascend.toolchain import Cann, family, find_cann
from services.platform.settings import ConfigurationError
from services.tasks.worker.process import served_device
from tests.unit.runtimes.ascend.installation import install, use


def located() -> Cann:
    found = find_cann()
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("soc", "named"),
    [
        ("Ascend310", "Ascend310"),
        ("Ascend310P3", "Ascend310P"),
        ("Ascend310B1", "Ascend310B"),
        ("Ascend910B4", "Ascend910B"),
        ("Ascend910A", "Ascend910A"),
        ("", ""),
    ],
)
def test_chips_are_of_families(soc: str, named: str) -> None:
    assert family(soc) == named


def test_a_worker_of_a_chip_starts_where_its_operators_are(cann: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert served_device("ascend-310p").id == "ascend-310p"
    found = located()
    assert (found.home, found.version, found.numbers) == (cann, "8.5.0", (8, 5))
    variables = found.environment()
    assert variables["LD_LIBRARY_PATH"].startswith(str(cann / f"{platform.machine()}-linux" / "devlib"))
    assert variables["PATH"].startswith(str(cann / "bin"))
    monkeypatch.setattr(toolchain, "has_chip", lambda: True)
    assert "devlib" not in found.environment()["LD_LIBRARY_PATH"]


def test_operators_of_another_chip_are_not_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use(install(tmp_path / "cann", chips=["ascend910b"]), monkeypatch)
    with pytest.raises(ConfigurationError, match=r"ascend needs the operators of Ascend310P: CANN 8\.5\.0 has none in"):
        served_device("ascend-310p")
    assert runtimes()["ascend"].available() is None  # it is there, for other chips


@pytest.mark.parametrize(
    ("version", "chip", "lacks"), [("8.5.0", False, True), ("8.5.0", True, False), ("8.0.RC3", False, False)]
)
def test_off_the_device_the_libraries_that_stand_for_the_drivers_are_needed(
    version: str, chip: bool, lacks: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(install(tmp_path / "cann", version=version, devlib=False), monkeypatch)
    monkeypatch.setattr(toolchain, "has_chip", lambda: chip)
    found = located()
    assert ("devlib" in (found.lacks("Ascend310P3") or "")) is lacks


def test_an_installation_is_found_by_path_and_in_its_usual_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = install(tmp_path / "cann")
    use(tmp_path / "nowhere", monkeypatch)
    monkeypatch.setattr(toolchain, "HOMES", ())
    monkeypatch.setenv("PATH", str(home / "bin"))
    assert located().home == home
    monkeypatch.setenv("PATH", "/usr/bin")
    monkeypatch.setattr(toolchain, "HOMES", (str(home),))
    assert located().home == home


def test_the_version_is_read_where_older_releases_keep_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = install(tmp_path / "cann")
    (home / "share/info/ge-compiler/version.info").unlink()
    use(home, monkeypatch)
    assert (located().version, located().numbers) == ("", (8, 5))
    (home / f"{platform.machine()}-linux" / "ascend_toolkit_install.info").write_text(
        "package_name=Ascend-cann-toolkit\nversion=8.0.RC3\ninnerversion=V100R001\n"
    )
    assert (located().version, located().numbers) == ("8.0.RC3", (8, 0))
