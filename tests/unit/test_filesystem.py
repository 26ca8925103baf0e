"""SQLite on a network file system is refused before it can lose anything."""

from pathlib import Path

import pytest

from celery_durable import filesystem
from celery_durable.broker.file import BrokerFile
from celery_durable.errors import ConfigurationError
from celery_durable.filesystem import refuse_network
from celery_durable.store.database import Database

MOUNTS = r"""22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 0:40 / /srv rw shared:2 - {outer} server:/srv rw
31 30 8:2 / /srv/local\040disk rw - xfs /dev/sdb1 rw
32 22 0:41 / /home rw - nfs4 server:/home rw
33 32 8:3 / /home rw - ext4 /dev/sdc1 rw
"""


@pytest.fixture
def mounts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def write(outer: str) -> None:
        file = tmp_path / "mountinfo"
        file.write_text(MOUNTS.format(outer=outer))
        monkeypatch.setattr(filesystem, "_MOUNTS", file)

    return write


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "smb3", "fuse.sshfs"])
def test_a_file_on_a_network_file_system_is_refused(mounts, kind):
    mounts(kind)
    with pytest.raises(
        ConfigurationError, match=rf"/srv/shop/store.db.*network file system \({kind}\)"
    ):
        refuse_network("/srv/shop/store.db", "the store")


@pytest.mark.parametrize(
    "path", ["/srv/local disk/store.db", "/srvother/store.db", "/home/ada/store.db", "/store.db"]
)
def test_what_is_mounted_over_it_last_counts(mounts, path):
    mounts("nfs")
    refuse_network(path, "the store")


def test_where_the_kernel_does_not_tell_nothing_is_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(filesystem, "_MOUNTS", tmp_path / "absent")
    refuse_network("/srv/store.db", "the store")


def test_the_store_asks_before_it_makes_the_file(mounts, tmp_path, monkeypatch):
    mounts("ext4")
    file = tmp_path / "mountinfo"
    file.write_text("1 0 0:1 / / rw - nfs server:/ rw\n")
    with pytest.raises(ConfigurationError, match="network file system"):
        Database(f"sqlite:///{tmp_path}/store.db").engine
    assert not (tmp_path / "store.db").exists()


def test_the_embedded_broker_asks_too(mounts, tmp_path, monkeypatch):
    mounts("ext4")
    (tmp_path / "mountinfo").write_text("1 0 0:1 / / rw - cifs //server/share rw\n")
    with pytest.raises(ConfigurationError, match="broker file.*network file system"):
        BrokerFile.at(f"{tmp_path}/broker.db").open()
    assert not (tmp_path / "broker.db").exists()


def test_an_unknown_connect_argument_is_an_error_that_names_the_setting(tmp_path):
    database = Database(f"sqlite:///{tmp_path}/store.db", {"connect_args": {"no_such": 1}})
    with (
        pytest.raises(ConfigurationError, match="durable_backend_options.*no_such"),
        database.cursor(),
    ):
        pass
