# shellcheck shell=bash
# Sourced after steps.sh by what compares with other mail servers or talks to them: how those get onto this machine.

# Where Debian's packages are unpacked: it lets only one mail server be installed.
export PEERS=$PWD/target/peers/root

# Postfix is installed; Exim and OpenSMTPD are unpacked beside it and need only their users and libraries.
install_peers() {
  ((EUID == 0)) || die "root is needed to run mail servers"
  tests/demo/provider install
  need util-linux=unshare openssl=openssl libidn12=/usr/share/doc/libidn12 libgnutls-dane0=/usr/share/doc/libgnutls-dane0 libnsl2=/usr/share/doc/libnsl2 \
    libevent-2.1-7=/usr/share/doc/libevent-2.1-7
  [[ -d $PEERS ]] || patiently "fetching Exim and OpenSMTPD" fetch_peers
  local user
  for user in Debian-exim opensmtpd opensmtpq; do
    id "$user" >/dev/null 2>&1 || useradd --system --shell /usr/sbin/nologin --home-dir /nonexistent "$user"
  done
}

fetch_peers() {
  rm -rf "$PEERS.part"
  mkdir -p "$PEERS.part"
  (
    cd "${PEERS%/*}" || exit
    # The first try works where the package lists are there and fresh.
    apt-get download exim4-daemon-light exim4-base opensmtpd || {
      apt-get update -qq
      apt-get download exim4-daemon-light exim4-base opensmtpd
    }
    for package in *.deb; do dpkg -x "$package" "$PEERS.part"; done
  )
  mv "$PEERS.part" "$PEERS"
}

aiosmtpd=target/tools/aiosmtpd
aiosmtpd_version=1.4.6

# aiosmtpd, in a virtual environment of its own.
install_aiosmtpd() {
  [[ $("$aiosmtpd/bin/pip" show aiosmtpd 2>/dev/null) == *"Version: $aiosmtpd_version"* ]] && return
  python3 -c 'import ensurepip, venv' 2>/dev/null || need python3-venv=/usr/share/doc/python3-venv
  patiently "installing aiosmtpd into $aiosmtpd" fetch_aiosmtpd
}

fetch_aiosmtpd() {
  python3 -m venv --clear "$aiosmtpd"
  "$aiosmtpd/bin/pip" install --quiet --disable-pip-version-check "aiosmtpd==$aiosmtpd_version"
}
