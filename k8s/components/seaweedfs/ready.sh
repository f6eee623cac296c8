#!/bin/sh
# Succeeds once the master, which is on loopback, knows a volume server with its volumes.
curl --silent --max-time 3 http://127.0.0.1:9333/dir/status | grep -q DataNodes
