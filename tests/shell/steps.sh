# shellcheck shell=bash
# Sourced by every script here: what a script says while it works, and how it gets what it needs.

if ((BASH_VERSINFO[0] < 5)); then
  echo "${0##*/}: bash 5 or newer is needed, this is $BASH_VERSION" >&2
  exit 1
fi

# Handed down to the scripts that a script starts, so that one clock runs through all of `make demo`.
export STEPS_START=${STEPS_START:-$EPOCHREALTIME}

# How often a silent command is reported on, in seconds: at first, and after two minutes.
STEPS_PATIENCE=15
STEPS_PATIENCE_LATER=60

elapsed() { # seconds with one decimal since the first script started
  local tenths=$(((${EPOCHREALTIME//[.,]/} - ${STEPS_START//[.,]/}) / 100000))
  printf '%d.%d' $((tenths / 10)) $((tenths % 10))
}

step() { printf '==> %6ss %s\n' "$(elapsed)" "$*"; }

die() { # one sentence that says what to do
  printf '%s: %s\n' "${0##*/}" "$*" >&2
  exit 1
}

# patiently WHAT CMD...: run a silent command, say now and then that it still runs, for how long and what
# it printed last, and show the end of what it printed only if it fails.
patiently() {
  local what=$1 log status=0 begin=$SECONDS next=$STEPS_PATIENCE pid
  shift
  log=$(mktemp)
  step "$what ..."
  "$@" >"$log" 2>&1 &
  pid=$!
  while kill -0 "$pid" 2>/dev/null; do
    sleep 0.2
    if ((SECONDS - begin >= next)); then
      printf '            %4d s  %.80s\n' $((SECONDS - begin)) "$(last_line "$log")"
      next=$((next + (next < 120 ? STEPS_PATIENCE : STEPS_PATIENCE_LATER)))
    fi
  done
  wait "$pid" || status=$?
  if ((status)); then
    tail -n 40 "$log" >&2
    printf '%s: failed after %d s: %s\n' "${0##*/}" $((SECONDS - begin)) "$what" >&2
  fi
  rm -f "$log"
  return "$status"
}

# The last line with something in it.
last_line() { tr '\r\t' '\n ' <"$1" | awk 'NF { line = $0 } END { sub(/^ */, "", line); print line }'; }

# wait_for SECONDS WHAT CMD...: until CMD succeeds; says what it gave up on.
wait_for() {
  local deadline=$((SECONDS + $1)) what=$2
  shift 2
  until "$@" >/dev/null 2>&1; do
    if ((SECONDS > deadline)); then
      printf '%s: gave up waiting for %s\n' "${0##*/}" "$what" >&2
      return 1
    fi
    sleep 0.2
  done
}

# need PACKAGE=PROBE...: install the Debian packages whose PROBE (a command, or an absolute path) is missing.
need() {
  local pair missing=()
  for pair; do
    has "${pair#*=}" || missing+=("${pair%%=*}")
  done
  ((${#missing[@]})) || return 0
  command -v apt-get >/dev/null || die "please install: ${missing[*]} (Debian's names; there is no apt-get here to do it)"
  ((EUID == 0)) || die "please install as root: apt-get install -y --no-install-recommends ${missing[*]}"
  patiently "installing Debian packages: ${missing[*]}" install_packages "${missing[@]}"
}

has() {
  case $1 in
    /*) [[ -e $1 ]] ;;
    *) command -v "$1" >/dev/null ;;
  esac
}

docker_runs() { command -v docker >/dev/null && docker info >/dev/null 2>&1; }

install_packages() {
  export DEBIAN_FRONTEND=noninteractive
  # The first try works where the package lists are there and fresh.
  apt-get install -y -qq --no-install-recommends "$@" || {
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends "$@"
  }
}

# What compiling the programs needs, checked before anything that takes long.
need_rust() {
  command -v cargo >/dev/null || die "cargo is missing: install Rust 1.95 or newer (https://rustup.rs)"
  # Build scripts are linked on this machine; Debian only recommends the C library's headers with gcc.
  need gcc=gcc libc6-dev=/usr/include/stdlib.h
}
