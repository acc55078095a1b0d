"""The real peers as plain processes, each with mounts and a network of its own."""

import pathlib
import shutil
import signal
import subprocess

from measuring import ROOT, SEARCH_PATH, Server, tell

INCUS_DIR = "/var/lib/incus"


def unshared(script):
    return ["unshare", "--mount", "--net", "sh", "-c", script]


def lxd(folder):
    """LXD of this machine; None when it is not installed."""
    if not shutil.which("lxd", path=SEARCH_PATH):
        return None
    folder.mkdir()
    log, system = folder.parent / "lxd-own.log", folder.parent / "system"
    system.mkdir(exist_ok=True)
    script = (
        f"ip link set lo up; mount -t sysfs sysfs {system} && mount --rbind /sys/fs/cgroup {system}/fs/cgroup &&"
        f" mount --move {system} /sys && mount --make-rshared / && exec lxd --group root --logfile {log}"
    )
    return Server("lxd", folder, unshared(script), {"LXD_DIR": str(folder)}, signal.SIGPWR, within=folder)


def incus(folder):
    """Incus of a newer Debian, with that as its root (a real one, since no user namespace is made below another); None when it
    can't be had."""
    found = subprocess.run([ROOT / "scripts/get-incus", "server"], stdout=subprocess.PIPE, text=True)
    if found.returncode != 0:
        return None
    folder.mkdir()
    below = pathlib.Path(found.stdout.strip())
    for name in (".old", INCUS_DIR[1:]):
        (below / name).mkdir(exist_ok=True)
    script = f"""
        set -e
        ip link set lo up
        mount --bind {below} {below} && cd {below}
        mount -t proc proc proc && mount -t sysfs sysfs sys
        mount --rbind /sys/fs/cgroup sys/fs/cgroup && mount --rbind /dev dev
        for own in run tmp var/log; do mount -t tmpfs tmpfs $own; done
        mkdir run/lock var/log/incus
        mount --bind {folder} .{INCUS_DIR}
        pivot_root . .old && cd / && umount -l /.old && mount --make-rshared /
        exec /usr/libexec/incus/incusd --group root --logfile /var/log/incus/incusd.log
    """
    environment = {"INCUS_DIR": INCUS_DIR, "PATH": f"{SEARCH_PATH}:/usr/libexec/incus"}
    return Server("incus", folder, unshared(script), environment, signal.SIGTERM, within=INCUS_DIR)
