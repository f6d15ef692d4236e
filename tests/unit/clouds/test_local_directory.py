"""What the local cloud keeps on the disk, and where it cannot."""

from __future__ import annotations

import os
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from controller import errors
from controller.clouds.local import directories
from controller.clouds.local import driver as local
from controller.ports import CloudConfig, MachineId, MachineState
from tests.unit.clouds.machines import Cloud, config, request


def test_ended_machines_are_forgotten_an_hour_later_as_whole_batches(cloud: Cloud) -> None:
    cloud.driver.create([request(count=2), request(batch_id="other")])
    cloud.driver.delete([MachineId("batch-0"), MachineId("other-0")])
    cloud.driver.close("closed", "")

    def listed(**after: int) -> list[str]:
        now = datetime.now(UTC) + timedelta(**after)
        return [each.id for each in local.LocalDriver(directories.Home(cloud.directory), "ours", lambda: now).list()]

    assert listed(minutes=59) == ["batch-0", "batch-1", "other-0"]
    listed(minutes=61)
    assert listed(minutes=61) == ["batch-0", "batch-1"]
    assert not cloud.place("closed-0").exists()
    assert len(list((cloud.directory / "addresses").iterdir())) == 2


def test_what_a_crash_left_half_made_is_cleared(cloud: Cloud) -> None:
    old, fresh = cloud.place(".new-old"), cloud.place(".new-fresh")
    stale = cloud.directory / "addresses" / "127.64.0.1"
    for each in (old, fresh):
        (each / "root").mkdir(parents=True)
        (each / "root" / "file").touch()
    (old / "root").chmod(0o500)  # What a machine may do to its own files.
    os.utime(old, (0, 0))
    stale.symlink_to("never-made-0")
    os.utime(stale, (0, 0), follow_symlinks=False)
    assert Cloud(cloud.directory).driver.list() == []
    assert (old.exists(), fresh.exists(), stale.is_symlink()) == (False, True, False)


@pytest.mark.parametrize("id", [pytest.param("../elsewhere-0", id="beside"), pytest.param("./batch-0", id="another spelling")])
def test_an_id_that_is_a_path_is_unknown(cloud: Cloud, id: str) -> None:
    cloud.launch()
    shutil.copytree(cloud.place("batch-0"), cloud.directory / "elsewhere-0")
    assert cloud.driver.describe([MachineId(id)]) == {}
    assert cloud.driver.delete([MachineId(id)]) == [None]
    assert cloud.state("batch-0") is MachineState.RUNNING
    with pytest.raises(errors.MachineNotFound):
        cloud.driver.console(MachineId(id))


def test_a_taken_address_is_not_given_again(tmp_path: Path) -> None:
    home = directories.prepare(tmp_path)
    first = directories.reserve_address(home, "a-0")
    assert directories.reserve_address(home, "a-0") == first
    (home.addresses / first).unlink()
    (home.addresses / first).symlink_to("b-0")
    assert directories.reserve_address(home, "a-0") != first


def test_a_damaged_record_makes_the_list_fail_as_a_whole(cloud: Cloud) -> None:
    cloud.launch()
    file = cloud.place("batch-0") / "machine.json"
    whole = file.read_bytes()
    file.write_bytes(b"")
    with pytest.raises(errors.Transient):
        cloud.driver.list()
    file.write_bytes(whole)


def test_a_disk_that_refuses_is_transient(cloud: Cloud, tmp_path: Path) -> None:
    (cloud.directory / "machines").rename(tmp_path / "aside")
    (outcome,) = cloud.driver.create([request()])
    assert isinstance(outcome, errors.Transient)
    (tmp_path / "aside").rename(cloud.directory / "machines")
    assert cloud.driver.list() == []


def test_the_account_is_the_directorys(cloud: Cloud, tmp_path: Path) -> None:
    account = cloud.driver.identity()
    assert account == Cloud(cloud.directory).driver.identity()
    assert account.id != Cloud(tmp_path / "other").driver.identity().id
    # Not the path: a directory that moves takes its machines and its account along.
    assert (account.kind, account.region, account.endpoint) == ("local", "", "")


def test_only_the_owner_can_look_in(cloud: Cloud) -> None:
    cloud.launch()
    for path in (cloud.directory, cloud.directory / "machines", cloud.place("batch-0"), cloud.root("batch-0")):
        assert path.stat().st_mode & 0o077 == 0


def test_the_directory_of_the_cloud_is_used(tmp_path: Path) -> None:
    driver = local.open(config(tmp_path / "state", directory=str(tmp_path / "named")))
    driver.identity()
    assert (tmp_path / "named" / "account").exists()
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize(
    ("config", "error"),
    [
        pytest.param(CloudConfig({}, {}, "ours", "/tmp", allow_local=False, ambient_credentials=False), errors.Denied, id="switched off"),
        pytest.param(config(Path("/proc/none")), errors.Denied, id="not a place to write"),
        pytest.param(config(Path("/tmp"), directory=5), errors.Invalid, id="not a text"),
        pytest.param(config(Path("/tmp"), directory="relative"), errors.Invalid, id="not absolute"),
    ],
)
def test_a_cloud_that_cannot_be_opened(config: CloudConfig, error: type[errors.CloudError]) -> None:
    with pytest.raises(error):
        local.open(config)
