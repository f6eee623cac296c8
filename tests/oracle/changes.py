"""Reads the change data feed of a Delta table with PyPI's deltalake (delta-rs, but none of Trireme's code).

usage: changes.py LAKE TABLE

Prints one JSON list: the rows of all versions, each with `_change_type` and `_commit_version`, sorted by version, then by text.
"""

import json
import sys

import deltalake
import deltas
import pyarrow


def main(lake, name):
    table = deltalake.DeltaTable(deltas.path(lake, name))
    rows = pyarrow.table(table.load_cdf(starting_version=0)).to_pylist()
    for row in rows:
        del row["_commit_timestamp"]
    text = [json.dumps(row, sort_keys=True, default=str) for row in rows]
    order = sorted(range(len(rows)), key=lambda at: (rows[at]["_commit_version"], text[at]))
    print(json.dumps([json.loads(text[at]) for at in order]))


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1].startswith("-"):
        print(__doc__, file=sys.stderr)
        sys.exit(64)
    main(sys.argv[1], sys.argv[2])
