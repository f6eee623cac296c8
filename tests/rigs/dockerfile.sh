#!/usr/bin/env bash
# Shows that k8s/Dockerfile builds from source: copies just the files that its `builder` stage names into an empty
# folder, and lets cargo look at them there.
#
#   tests/rigs/dockerfile.sh [--check]
#
# --check    also type-checks the binaries in that folder (a minute where the dependencies were checked before; they
#            are shared with the repository's target folder)
#
# Prints one line a step and 'N passed, M failed'. Needs cargo and its registry.

set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repo=$(cd "$here/../.." && pwd)
# shellcheck source-path=SCRIPTDIR source=venv.sh
source "$here/venv.sh"

with_check=false
case ${1:-} in
  "") ;;
  --check) with_check=true ;;
  -h | --help) sed -n '2,/^$/s/^# \{0,1\}//p' "$0" && exit ;;
  *) fail "unknown argument: $1" "see $0 --help" ;;
esac

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
passed=0 failed=0

# check WHAT COMMAND...    counts, and shows the output of a command that fails
check() {
  local what=$1 output
  shift
  if output=$("$@" 2>&1); then
    echo "ok      $what"
    passed=$((passed + 1))
  else
    printf 'FAILED  %s\n%s\n' "$what" "$output"
    failed=$((failed + 1))
  fi
}

# Each COPY of the builder stage that takes files of the build's context, without the word itself.
copies() {
  awk 'toupper($1) == "FROM" { builder = ($NF == "builder") }
       builder && toupper($1) == "COPY" && $2 !~ /^--from/ { $1 = ""; print }' "$repo/k8s/Dockerfile"
}

copy_files() {
  local words into at=0
  while read -r -a words; do
    into=$work/${words[-1]}
    unset 'words[-1]'
    at=$((at + 1))
    for from in "${words[@]}"; do
      [[ -e $repo/$from ]] || fail "k8s/Dockerfile copies $from, which is not here" "mend its COPY lines"
      # As Docker does: a folder's content goes into the folder that is named, a file where the name says.
      if [[ -d $repo/$from ]]; then
        mkdir -p "$into" && cp -R "$repo/$from/." "$into/"
      elif [[ $into == */ ]]; then
        mkdir -p "$into" && cp "$repo/$from" "$into"
      else
        mkdir -p "$(dirname "$into")" && cp "$repo/$from" "$into"
      fi
    done
  done < <(copies)
  ((at > 0)) || fail "k8s/Dockerfile has no COPY in a stage named builder" "mend it, or this script"
}

# Every source file that cargo would begin with is there, too.
whole_workspace() {
  local sources
  (cd "$work" && cargo metadata --locked --offline --no-deps --format-version 1) >"$work/metadata.json" || return 1
  sources=$(python3 -c '
import json, sys
packages = json.load(open(sys.argv[1]))["packages"]
print("\n".join(target["src_path"] for package in packages for target in package["targets"]))' "$work/metadata.json")
  while read -r source; do
    [[ -e $source ]] || { echo "no ${source#"$work"/}" && return 1; }
  done <<<"$sources"
}

resolves() {
  # `metadata` wants the packages of every platform; a tree is of this one.
  (cd "$work" && cargo tree --workspace --locked --depth 1) >/dev/null
}

compiles() {
  (cd "$work" && CARGO_TARGET_DIR=$repo/target cargo check --workspace --bins --locked)
}

copy_files
check "the files that k8s/Dockerfile copies are a whole workspace" whole_workspace
check "its lock file is up to date" resolves
if $with_check; then check "its binaries compile" compiles; fi

echo "$passed passed, $failed failed"
exit $((failed > 0))
