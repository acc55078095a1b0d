"""Drives a running daemon with the unmodified pylxd. usage: pylxd_basics.py SOCKET METADATA ROOTFS

Each step says its name once it has passed, so that a failure shows where it was. Any error ends with code 1.
"""

import hashlib
import sys
from pathlib import Path
from urllib.parse import quote

import pylxd
import pylxd.exceptions


def passed(step):
    print(step, flush=True)


def connect(socket):
    client = pylxd.Client(endpoint="http+unix://" + quote(socket, safe=""))
    assert client.trusted, "a peer on the unix socket is trusted"
    assert client.host_info["api_version"] == "1.0", client.host_info
    passed("connect")
    return client


def storage(client):
    client.storage_pools.create({"name": "p1", "driver": "dir", "config": {}})
    assert client.storage_pools.exists("p1")
    assert sorted(one.name for one in client.storage_pools.all()) == ["default", "p1"]
    pool = client.storage_pools.get("p1")
    assert (pool.driver, pool.status) == ("dir", "Created"), (pool.driver, pool.status)
    assert pool.resources.get().space["total"] > 0
    passed("pool create")

    pool.volumes.create({"name": "v1", "type": "custom", "config": {"user.note": "kept"}}, wait=True)
    assert [(one.name, one.type) for one in pool.volumes.all()] == [("v1", "custom")]
    volume = pool.volumes.get("custom", "v1")
    assert volume.config["user.note"] == "kept", volume.config
    volume.patch({"config": {"user.note": "changed"}}, wait=True)
    assert pool.volumes.get("custom", "v1").config["user.note"] == "changed"
    snapshot = volume.snapshots.create(name="s0", wait=True)
    assert [one.name for one in volume.snapshots.all(use_recursion=True)] == ["s0"]
    volume.restore_from("s0", wait=True)
    snapshot.delete(wait=True)
    assert volume.snapshots.all() == []
    passed("volume create, change, snapshot, restore")

    again = {"name": "v1", "type": "custom"}
    refused(pylxd.exceptions.LXDAPIException, "already exists", pool.volumes.create, again, wait=True)
    refused(pylxd.exceptions.LXDAPIException, "in use", pool.delete)
    refused(pylxd.exceptions.NotFound, "nope", pool.volumes.get, "custom", "nope")
    volume = pool.volumes.get("custom", "v1")
    volume.rename({"name": "v2", "pool": "p1"}, wait=True)
    pool.volumes.get("custom", "v2").delete(wait=True)
    assert pool.volumes.all() == []
    pool.delete()
    assert not client.storage_pools.exists("p1")
    passed("volume and pool delete")


def refused(kind, word, call, *arguments, **options):
    try:
        call(*arguments, **options)
    except kind as error:
        assert word in str(error), f"{error} should say {word}"
    else:
        raise AssertionError(f"{call} should have been refused")


def image(client, metadata, rootfs):
    parts = [Path(path).read_bytes() for path in (metadata, rootfs)]
    created = client.images.create(parts[1], parts[0], wait=True)
    digest = hashlib.sha256(b"".join(parts)).hexdigest()
    assert created.fingerprint == digest, (created.fingerprint, digest)
    created.add_alias("busybox", "of the test")
    assert client.images.get_by_alias("busybox").fingerprint == digest
    assert client.images.exists("busybox", alias=True)
    assert [one.fingerprint for one in client.images.all()] == [digest]
    passed("image create")


def profile(client):
    client.profiles.create("web", config={"user.note": "kept"}, devices={})
    found = client.profiles.get("web")
    assert found.config == {"user.note": "kept"}, found.config
    found.config["user.more"] = "1"
    found.save(wait=True)
    assert client.profiles.get("web").config["user.more"] == "1"
    assert sorted(one.name for one in client.profiles.all()) == ["default", "web"]
    passed("profile create")


def container(client):
    wanted = {
        "name": "c1",
        "profiles": ["default", "web"],
        "source": {"type": "image", "alias": "busybox"},
        "config": {"user.own": "1"},
    }
    made = client.instances.create(wanted, wait=True)
    assert made.status == "Stopped", made.status
    assert made.expanded_config["user.note"] == "kept", made.expanded_config
    made.start(wait=True)
    made.sync()
    assert made.status == "Running", made.status
    assert made.state().pid > 0
    passed("container create and start")

    for command, code in [(["true"], 0), (["sh", "-c", "exit 3"], 3), (["no-such-program"], 127)]:
        assert made.execute(command).exit_code == code, command
    told = made.execute(["sh", "-c", 'echo "$NAME"; echo "to stderr" >&2'], environment={"NAME": "from the environment"})
    assert told == (0, "from the environment\n", "to stderr\n"), told
    assert made.execute(["cat"], stdin_payload="over stdin").stdout == "over stdin"
    large = made.execute(["sh", "-c", "yes | head -c 1000000 | md5sum"]).stdout.split()[0]
    assert large == hashlib.md5(b"y\n" * 500000).hexdigest(), large
    passed("container execute")

    made.stop(force=True, wait=True)
    snapshot = made.snapshots.create("s0", wait=True)
    assert [one.name for one in made.snapshots.all()] == ["s0"]
    made.restore_snapshot("s0", wait=True)
    snapshot.delete(wait=True)
    made.sync()
    assert made.status == "Stopped", made.status
    refused(pylxd.exceptions.LXDAPIException, "in use", client.profiles.get("web").delete, wait=True)
    made.delete(wait=True)
    assert not client.instances.exists("c1")
    client.profiles.get("web").delete(wait=True)
    client.images.get_by_alias("busybox").delete(wait=True)
    assert client.images.all() == []
    passed("container, profile and image delete")


def main():
    socket, metadata, rootfs = sys.argv[1:]
    client = connect(socket)
    storage(client)
    image(client, metadata, rootfs)
    profile(client)
    container(client)
    passed("all")


main()
