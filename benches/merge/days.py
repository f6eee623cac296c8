"""Ten days of streams and two more to merge, from one generated day: days.py DAY OUT. Run by run.py in the interpreter of `deltalake`.

OUT/day-1.csv to day-10.csv: each has the keys of its own calendar day (21 to 30 December), scattered over it; from the second on, every tenth row is
an update of a row of the day before. OUT/near.csv is the eleventh day, with every fifth row an update of the tenth; OUT/far.csv is the same with its
updates spread over all ten. OUT/base is the lake of the ten days as delta-rs has it: a commit a day, of the rows that the next day leaves, and
the small tables that the questions need. OUT/expected.json has rows and checksums. The same day gives the same bytes.

days.py copy-on-write LAKE makes an empty table of streams that must be written without deletion vectors.
"""

import json
import sys
from pathlib import Path

from check import deliveries, merged
from peers import DuckDb, location

DAYS = 10
# What a row that is an update updates: (every n-th row is one, day of the key, number of the key). A day of N rows has 0.9 N keys of its own, or N.
UPDATES = {
    "day": (10, "day - 1", "row // 10 * 9"),
    "near": (5, "day - 1", "row // 5 * 9 // 2"),
    "far": (5, f"row // 5 % {DAYS} + 1", f"row // 5 // {DAYS} * 45"),
}


def deliver(db, source, kind, day, out):
    every, updated_day, updated = UPDATES[kind]
    update = f"row % {every} = {every - 1}" if day > 1 else "false"
    new = f"row - row // {every}" if day > 1 else "row"
    # Keys are milliseconds: 48,271 has no factor in common with the 86,400,000 of a day, so no two numbers share one.
    db.execute(f"""
        COPY (
          SELECT movie_title, user_email, CAST(size_mb AS double) + day AS size_mb, strftime(start, '%Y-%m-%dT%H:%M:%S.%g+0100') AS start_at,
            strftime(start + to_milliseconds(10_000 + (row * 1009 + day) % 86_390_000), '%Y-%m-%dT%H:%M:%S.%g+0100') AS end_at
          FROM (
            SELECT *, TIMESTAMP '2021-12-20' + to_milliseconds(key_day * 86_400_000 + (key * 48_271 + key_day * 7_919_013) % 86_400_000) AS start
            FROM (
              SELECT *, CASE WHEN {update} THEN {updated_day} ELSE day END AS key_day, CASE WHEN {update} THEN {updated} ELSE {new} END AS key
              FROM (SELECT *, {day} AS day, row_number() OVER () - 1 AS row FROM read_csv('{source}', header = true, all_varchar = true))))
        ) TO '{out}' (HEADER)""")


def main(day, out):
    import duckdb
    from deltalake import write_deltalake
    out = Path(out)
    out.mkdir(parents=True)
    db = duckdb.connect()
    for number in range(1, DAYS + 1):
        deliver(db, f"{day}/streams.csv", "day", number, out / f"day-{number}.csv")
    for kind in ("near", "far"):
        deliver(db, f"{day}/streams.csv", kind, DAYS + 1, out / f"{kind}.csv")
    db.close()
    peer, base = DuckDb(), out / "base"
    days = [str(out / f"day-{number}.csv") for number in range(1, DAYS + 1)]
    for delivery, following in zip(days, [*days[1:], None]):
        rows = peer.select("streams", delivery)
        if following:
            rows = f"SELECT * FROM ({rows}) ANTI JOIN ({peer.select('streams', following)}) USING (start_at)"
        write_deltalake(location(base, "streams"), peer.db.sql(rows).to_arrow_reader(65536), mode="append")
    for name, file in (("movies", "movies.csv"), ("books", "books.json"), ("authors", "authors.json")):
        peer.create(peer.read(name, f"{day}/{file}"), location(base, name))
    # The eleventh days are the deliveries DAYS and DAYS + 1 from 0.
    peer.db.execute(f"CREATE TEMP TABLE delivered AS {deliveries(peer, 'streams', [*days, f'{out}/near.csv', f'{out}/far.csv'])}")
    contents = {kind: merged(peer.db, f"SELECT * FROM delivered WHERE delivery < {DAYS} OR delivery = {last}")
                for kind, last in {"base": 0, "near": DAYS, "far": DAYS + 1}.items()}
    (out / "expected.json").write_text(json.dumps(contents))


def make_copy_on_write(lake):
    import pyarrow as pa
    from deltalake import DeltaTable
    instant = pa.timestamp("us", "UTC")
    types = {"start_at": instant, "end_at": instant, "movie_title": pa.string(), "user_email": pa.string(), "size_mb": pa.float64()}
    DeltaTable.create(location(lake, "streams"), pa.schema(types.items()), configuration={"delta.enableDeletionVectors": "false"})


if __name__ == "__main__":
    if sys.argv[1] == "copy-on-write":
        make_copy_on_write(sys.argv[2])
    else:
        main(*sys.argv[1:])
