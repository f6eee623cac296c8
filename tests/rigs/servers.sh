#!/usr/bin/env bash
# Servers to download from, of PyPI's packages: see servers.py. Ends when its standard input does.
#
#   servers.sh ftp|ftps|ftps-implicit|sftp FOLDER [OPTION=VALUE]...    prints one line of JSON when it listens
set -euo pipefail
# shellcheck source=venv.sh
source "$(dirname "${BASH_SOURCE[0]}")/venv.sh"
venv_with pyftpdlib==2.2.0 pyOpenSSL==26.4.0 asyncssh==2.24.1
exec "$venv/bin/python" "$(dirname "${BASH_SOURCE[0]}")/servers.py" "$@"
