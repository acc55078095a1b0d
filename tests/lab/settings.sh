# What the lab's scripts agree on. Sourced, never run.
#
#   SUITE=trixie   Debian 13's own User Mode Linux, kernel source and zfs; they change at point releases only
#   SUITE=sid      sid's User Mode Linux: quicker at system calls, changes every few weeks
#   PARTS="..."    what the guest can do, out of: lvm zfs lxc ceph
#   MIRROR=URL     the Debian archive; by default the first one that this machine's apt uses
#   JOBS=N         parallel compilers; by default one for each CPU

SUITE=${SUITE:-trixie}
PARTS=${PARTS:-lvm zfs}
JOBS=${JOBS:-$(nproc)}
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/larder/lab

say() { echo "lab: $*" >&2; }
die() { say "$*"; exit 1; }
has() { [[ " $PARTS " == *" $1 "* ]]; }

# Runs a step with its output in a log; when it fails, shows the log's end and says which step it was.
step() {
  local what=$1 log=$2 began=$SECONDS
  shift 2
  if ! "$@" >"$log" 2>&1; then
    tail -n 25 "$log" >&2
    die "failed: $what (all of its output: $log)"
  fi
  say "$what: $((SECONDS - began)) s"
}

check_settings() {
  case $SUITE in trixie | sid) ;; *) die "unknown SUITE=$SUITE: it is trixie or sid" ;; esac
  local part
  for part in $PARTS; do
    case $part in lvm | zfs | lxc | ceph) ;; *) die "unknown part $part in PARTS: it is one of lvm, zfs, lxc, ceph" ;; esac
  done
  [ "$(id -u)" = 0 ] || die "needs root: it makes a root file system and mounts"
}

# The Debian packages of the guest's root file system.
guest_packages() {
  echo udev kmod iproute2 procps psmisc util-linux e2fsprogs attr acl rsync diffutils xz-utils zstd libgcc-s1 busybox-static curl
  has lvm && echo lvm2 thin-provisioning-tools dmeventd btrfs-progs xfsprogs squashfs-tools
  has zfs && echo zfsutils-linux
  has lxc && echo lxc uidmap apparmor
  has ceph && echo ceph-mon ceph-osd ceph-mgr ceph-mds ceph-common radosgw xfsprogs btrfs-progs s3cmd
  return 0
}
