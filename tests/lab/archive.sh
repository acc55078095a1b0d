# The Debian archive through an apt of its own: this machine's sources, preferences and packages are not touched. Sourced.

mirror() {
  local found=${MIRROR:-}
  if [ -z "$found" ]; then
    found=$(apt-get indextargets --format '$(REPO_URI) $(COMPONENT)' 'Identifier: Packages' |
      awk '$1 ~ /\/debian\/*$/ && $2 == "main" && !uri { uri = $1 } END { print uri }')
  fi
  [ -n "$found" ] || die "no Debian archive in this machine's apt sources: set MIRROR=http://…/debian"
  echo "${found%/}"
}

# Makes $1 an apt state that knows trixie (and for SUITE=sid, sid and the backports too).
archive_open() {
  APT=$1
  local suite suites=trixie
  [ "$SUITE" = trixie ] || suites="trixie trixie-backports sid"
  mkdir -p "$APT"/{lists/partial,cache/archives/partial,parts}
  : >"$APT/status"
  for suite in $suites; do
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $(mirror) $suite main contrib"
  done >"$APT/sources.list"
  archive update -qq
}

archive() {
  apt-get -o Dir::Etc::sourcelist="$APT/sources.list" -o Dir::Etc::sourceparts="$APT/parts" \
    -o Dir::Etc::preferencesparts="$APT/parts" -o Dir::Etc::preferences=/dev/null \
    -o Dir::State::lists="$APT/lists" -o Dir::State::status="$APT/status" -o Dir::Cache="$APT/cache" \
    -o APT::Sandbox::User=root -o APT::Install-Recommends=false "$@"
}

# The version of package $1 that suite $2 has.
archive_version() {
  archive download --print-uris "$1/$2" 2>/dev/null | sed -n "1s/^'[^']*' [^_]*_\([^_]*\)_.*/\1/p" | sed 's/%3a/:/'
}

# What a guest is made of, one "package version" a line: everything that its cache key must change with.
archive_contents() {
  local uml
  uml=$(archive_version user-mode-linux "$SUITE")
  [ -n "$uml" ] || die "the archive has no user-mode-linux in $SUITE"
  echo "user-mode-linux $uml"
  if has zfs; then
    # The kernel source of the binary's own series: 6.12um1+b22 was built from linux-source-6.12.
    local source=linux-source-${uml%%um*} version
    version=$(archive_version "$source" "$SUITE")
    [ -n "$version" ] || [ "$SUITE" = trixie ] || version=$(archive_version "$source" trixie-backports)
    [ -n "$version" ] || die "$source is not in the archive (any more): use SUITE=trixie"
    echo "$source $version"
    echo "zfs-dkms $(archive_version zfs-dkms trixie)"
  fi
  # shellcheck disable=SC2046
  archive install --simulate -t trixie $(guest_packages) | sed -n 's/^Inst \([^ ]*\) (\([^ ]*\) .*/\1 \2/p' | sort
}
