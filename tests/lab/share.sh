# What the scripts agree on that run programs of ours in guests. Sourced after settings.sh, never run.

# The guest of a lab. That of Ceph, alone or between others, is a larger one, with other packages. ZFS is only for trixie's
# kernel; with SUITE=sid LVM has a guest of its own with sid's. Where that can't be built now, trixie's is taken.
guest_of() {
  case $SUITE:$1:${LARDER_BETWEEN:-} in
    *:ceph* | *:between:*ceph*) PARTS=ceph "$LAB/build" || SUITE=trixie PARTS=ceph "$LAB/build" ;;
    sid:lvm*) SUITE=sid PARTS=lvm "$LAB/build" || SUITE=trixie PARTS="lvm zfs" "$LAB/build" ;;
    sid:*) SUITE=trixie PARTS="lvm zfs" "$LAB/build" ;;
    *) "$LAB/build" ;;
  esac
}

# Puts what runs before the programs, and what they run, into the folder that a guest sees as /share.
share_scripts() {
  cp "$LAB/prepare-guest" "$1/"
  mkdir -p "$1/scripts" "$1/tests/lab"
  cp "$LAB/../../scripts/radosgw" "$1/scripts/"
  cp "$LAB/ceph-cluster" "$1/tests/lab/"
}

# What runs in the guest of a lab before the programs. Those of the object gateway start a cluster of their own.
before() {
  case $1:${LARDER_BETWEEN:-} in
    cephobject:*) echo ./prepare-guest ;;
    ceph* | between:*ceph*) echo './prepare-guest && ./tests/lab/ceph-cluster' ;;
    *) echo ./prepare-guest ;;
  esac
}
