#!/bin/sh
# Creates the bucket $BUCKET at $AWS_ENDPOINT_URL; a bucket that is there already is fine.
# Runs in SeaweedFS' image (Alpine), which has had curl since December 2025 (their #7709).
set -eu
try=0
while :; do
  # curl prints 000 when nothing answers; -f is not used, the status decides.
  status=$(curl --silent --max-time 10 --output /dev/null --write-out '%{http_code}' \
    --aws-sigv4 "aws:amz:${AWS_REGION:-us-east-1}:s3" \
    --user "$AWS_ACCESS_KEY_ID:$AWS_SECRET_ACCESS_KEY" \
    --request PUT "$AWS_ENDPOINT_URL/$BUCKET") || true
  case $status in
    200) echo "bucket $BUCKET: created"; exit 0 ;;
    409) echo "bucket $BUCKET: already there"; exit 0 ;;
    401 | 403)
      echo "bucket $BUCKET: $AWS_ENDPOINT_URL refused the key $AWS_ACCESS_KEY_ID (HTTP $status)" >&2
      echo "hint: Secret seaweedfs-admin must hold an identity of s3.json with the action Admin" >&2
      exit 1 ;;
  esac
  try=$((try + 1))
  if [ "$try" -ge 60 ]; then
    echo "bucket $BUCKET: no success from $AWS_ENDPOINT_URL in $try tries, last HTTP status $status" >&2
    echo "hint: look at the log of pod seaweedfs-0" >&2
    exit 1
  fi
  sleep 2
done
