# Builds spl.ko and zfs.ko for the packaged kernel; no kernel is compiled. Sourced by build, which sets WORK and RELEASE.
#
# The source package may be some stable releases ahead of the binary, and symbols carry no versions: only the smoke test
# would tell of a structure that changed between them.

zfs_module() {
  export ARCH=um ARCH_UM=ARCH=um
  # The same module wherever it is built.
  export KCFLAGS="-fmacro-prefix-map=$WORK/="
  local series
  series=$(dpkg-deb -f "$WORK"/packages/user-mode-linux_*.deb Version | sed 's/um.*//')
  step "zfs: fetching its source and the kernel's" "$WORK/logs/zfs-fetch" zfs_fetch "$series"
  step "zfs: preparing the kernel's build tree" "$WORK/logs/zfs-prepare" zfs_prepare
  step "zfs: configure" "$WORK/logs/zfs-configure" zfs_configure
  step "zfs: compiling" "$WORK/logs/zfs-make" make -C "$WORK/zfs" -j"$JOBS"
  local module modules=$WORK/rootfs/usr/lib/modules/$RELEASE/extra
  mkdir -p "$modules"
  for module in spl zfs; do objcopy --strip-debug "$WORK/zfs/module/$module.ko" "$modules/$module.ko"; done
}

zfs_fetch() {
  (cd "$WORK/packages" && archive download -qq zfs-dkms/trixie "linux-source-$1")
  dpkg-deb -x "$WORK"/packages/zfs-dkms_*.deb "$WORK/zfs-package"
  cp -a "$WORK"/zfs-package/usr/src/zfs-* "$WORK/zfs"
  mkdir "$WORK/source"
  # Without the drivers that no build tree needs: a third of the disk.
  dpkg-deb --fsys-tarfile "$WORK"/packages/linux-source-*.deb |
    tar -xf - --to-stdout --wildcards './usr/src/linux-source-*.tar.xz' |
    tar -xJf - -C "$WORK/source" --strip-components=1 --exclude='*/drivers/gpu/*.[ch]' --exclude='*/sound/*.[ch]' \
      --exclude='*/Documentation/*.rst' --exclude='*/tools/testing' --exclude='*/drivers/media/*.[ch]' --exclude='*.dts*' \
      --exclude='*/drivers/net/wireless/*.[ch]' --exclude='*/drivers/net/ethernet/*.[ch]'
}

# A build tree that matches the binary: its own configuration, its release, its exported symbols.
zfs_prepare() {
  local tree=$WORK/tree
  mkdir "$tree"
  # The binary wants the guest's libc, and looks at itself in /proc.
  unshare -m --propagation private sh -ec 'mount -t proc proc "$1/proc"; exec chroot "$1" /usr/bin/linux.uml --showconfig' \
    sh "$WORK/rootfs" >"$tree/.config"
  "$WORK/source/scripts/config" --file "$tree/.config" -d DEBUG_INFO -d DEBUG_INFO_DWARF_TOOLCHAIN_DEFAULT \
    -d DEBUG_INFO_DWARF4 -d DEBUG_INFO_DWARF5 -e DEBUG_INFO_NONE -d DEBUG_INFO_BTF
  make -s -C "$WORK/source" O="$tree" olddefconfig
  make -s -C "$WORK/source" O="$tree" -j"$JOBS" modules_prepare
  if grep -q '^CONFIG_MODVERSIONS=y' "$tree/.config"; then
    echo "this kernel has symbol versions, which its binary alone doesn't tell" >&2
    return 1
  fi
  sed -i "s/\"[^\"]*\"/\"$RELEASE\"/" "$tree/include/generated/utsrelease.h"
  echo "$RELEASE" >"$tree/include/config/kernel.release"
  python3 "$LAB/kernel-symbols.py" "$WORK/uml/usr/bin/linux.uml" >"$tree/Module.symvers"
}

zfs_configure() {
  cd "$WORK/zfs"
  ./configure --disable-dependency-tracking --with-config=kernel --with-linux="$WORK/source" --with-linux-obj="$WORK/tree"
}
