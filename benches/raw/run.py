#!/usr/bin/env python3
"""How fast raw is read: one core against other readers, then clusters of 1, 2 and 4 executors against whole peers.

    cargo build --release --workspace && benches/raw/run.py [--size 1GB] [--runs 3] [--executors 1 2 4] [--only PART...]

Parts are `core`, `cluster` and `peers`. Needs Linux, python3 and PyPI (a virtual environment is made under target/bench) and about four times
SIZE of disk. Prints Markdown tables; all figures are medians over RUNS. CPU seconds and peak memory are those of whole processes: of a peer's one
process, or of the scheduler and all executors together (their peaks added up, which is an upper bound).
"""

import argparse
import json
import os
import shutil
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import common  # noqa: E402
from common import BINARIES, REVIEWS, STREAMS, WORK, Cluster, measured, medians, table  # noqa: E402

PACKAGES = ["duckdb==2.0.0", "polars==2.1.0", "deltalake==1.6.6", "pyarrow==26.0.1"]
# name: folder of the generated data, file, expressions
FILES = {
    "array": ("array", "reviews.json", REVIEWS),
    "NDJSON": ("ndjson", "reviews.json", REVIEWS),
    "CSV": ("array", "streams.csv", STREAMS),
}


def path_of(name):
    layout, file, _ = FILES[name]
    return WORK / "raw" / layout / "day-1" / file


def generate(size):
    for layout in ("array", "ndjson"):
        common.generate(WORK / "raw" / layout, size, layout, days=1)


def python():
    return common.python("raw", PACKAGES)


def speed(size, seconds):
    return f"{size / seconds / 1e6:,.0f}"


# One core.

PEER_READS = """
import sys, time
kind, work, file, out = sys.argv[1:]
array = "array" in file.split("/")
csv = file.endswith(".csv")
def stamp(c): return f"strptime({c}, '%Y-%m-%dT%H:%M:%S.%g%z')"
if kind == "duckdb":
    import duckdb
    db = duckdb.connect()
    db.execute("SET threads = 1"); db.execute("SET preserve_insertion_order = false")
    if csv:
        read = f"read_csv('{file}', header = true, all_varchar = true)"
        used = "movie_title, user_email, size_mb, start_at, end_at"
        made = f"{stamp('start_at')} AS start_at, {stamp('end_at')} AS end_at, lower(movie_title) AS movie_title, user_email, TRY_CAST(size_mb AS double) AS size_mb"
    else:
        columns = ("{content: 'STRUCT(text VARCHAR)', rating: 'STRUCT(rate BIGINT)', books: 'STRUCT(metadata STRUCT(title VARCHAR))[]',"
                   " movies: 'STRUCT(title VARCHAR)[]', created: 'VARCHAR'}")
        read = f"read_json('{file}', format = '{'array' if array else 'newline_delimited'}', columns = {columns})"
        used = "content, rating, books, movies, created"
        made = (f"lower(content.text) AS text, CAST(rating.rate AS int) AS rate_value, list_transform(books, lambda x: lower(x.metadata.title)) AS book_titles,"
                f" list_transform(movies, lambda x: lower(x.title)) AS movie_titles, {stamp('created')} AS created_at")
    start, cpu = time.monotonic(), time.process_time()
    if work == "encode":
        db.execute(f"COPY (SELECT {made} FROM {read}) TO '{out}' (FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1)")
        rows = 0
    else:
        # Batch by batch into Arrow, as the others.
        query = db.sql(f"SELECT {used if work == 'parse' else made} FROM {read}")
        rows = sum(batch.num_rows for batch in query.to_arrow_reader(8192))
else:
    import polars as pl
    text = pl.String
    def stamp(c): return pl.col(c).str.to_datetime("%Y-%m-%dT%H:%M:%S%.3f%z", time_zone="UTC")
    start, cpu = time.monotonic(), time.process_time()
    if csv:
        lazy = pl.scan_csv(file, infer_schema=False)
        made = [stamp("start_at"), stamp("end_at"), pl.col("movie_title").str.to_lowercase(), "user_email", pl.col("size_mb").cast(pl.Float64, strict=False)]
    else:
        schema = {"content": pl.Struct({"text": text}), "rating": pl.Struct({"rate": pl.Int64}),
                  "books": pl.List(pl.Struct({"metadata": pl.Struct({"title": text})})), "movies": pl.List(pl.Struct({"title": text})), "created": text}
        lazy = pl.read_json(file, schema=schema).lazy() if array else pl.scan_ndjson(file, schema=schema)
        element = pl.element()
        made = [pl.col("content").struct.field("text").str.to_lowercase(), pl.col("rating").struct.field("rate").cast(pl.Int32).alias("rate_value"),
                pl.col("books").list.eval(element.struct.field("metadata").struct.field("title").str.to_lowercase()).alias("book_titles"),
                pl.col("movies").list.eval(element.struct.field("title").str.to_lowercase()).alias("movie_titles"), stamp("created").alias("created_at")]
    if work != "parse":
        lazy = lazy.select(made)
    if work == "encode":
        lazy.sink_parquet(out, compression="zstd", compression_level=1)
    else:
        lazy.collect(engine="streaming")
print(time.monotonic() - start, time.process_time() - cpu)
"""


def core(runs):
    interpreter, script = python(), WORK / "peer_reads.py"
    script.write_text(PEER_READS)
    pin = ["taskset", "-c", "0"]
    rows = []
    for name, (_, _, columns) in FILES.items():
        path = path_of(name)
        size = path.stat().st_size
        flags = [flag for column in columns for flag in ("-t", column)]
        for reader in ("trireme", "datafusion", "duckdb", "polars"):
            cells = []
            for work in ("parse", "transform", "encode"):
                times = []
                for _ in range(runs):
                    if reader in ("trireme", "datafusion"):
                        if reader == "datafusion" and name == "array":
                            break
                        command = [BINARIES / "trireme-bench-raw", "--work", work, "--reader", reader, "--file", path, *flags]
                        _, _, peak, printed = measured([*pin, *command])
                        took = json.loads(printed)
                        times.append((took["seconds"], took["cpu_seconds"], peak))
                    else:
                        command = [interpreter, script, reader, work, path, WORK / "out.parquet"]
                        _, _, peak, printed = measured([*pin, *command], {"POLARS_MAX_THREADS": "1"})
                        times.append((*map(float, printed.split()), peak))
                if not times:
                    cells += ["–", "–"]
                    continue
                _, cpu, peak = medians(times)
                cells += [speed(size, cpu), f"{peak / 1e6:,.0f}"]
            rows.append([name, reader, *cells])
    table("One core: MB of text per CPU second, and peak MB of the process", ["file", "reader", "parse", "MB", "+ transform", "MB", "+ Parquet, ZSTD", "MB"], rows)


# Clusters.

def clusters(runs, counts, memory):
    rows = []
    for name, (_, _, columns) in FILES.items():
        path = path_of(name)
        size = path.stat().st_size
        flags = [flag for column in columns for flag in ("-t", column)]
        for executors in counts:
            times = []
            for _ in range(runs):
                cluster = Cluster(executors, memory)
                try:
                    cpu = cluster.cpu()
                    download = cluster.job("download", "--from", f"file://{path}", "--to", "bench.raw")["duration_ms"] / 1000
                    downloaded = cluster.cpu()
                    load = cluster.job("load", "--table", "bench.raw", "--source", "bench.raw", *flags)
                    times.append((download, downloaded - cpu, load["duration_ms"] / 1000, cluster.cpu() - downloaded, sum(cluster.peaks()), max(cluster.peaks())))
                finally:
                    cluster.stop()
            download, cpu_download, load, cpu_load, peak, largest = medians(times)
            rows.append([name, executors, f"{download:.2f}", f"{cpu_download:.1f}", f"{load:.2f}", f"{cpu_load:.1f}", speed(size, load), f"{peak / 1e6:,.0f}",
                         f"{largest / 1e6:,.0f}"])
    table(f"Clusters, 1 vcore and {memory} an executor: a file downloaded, then loaded into a Delta table",
          ["file", "executors", "download s", "CPU s", "load s", "CPU s", "load MB/s", "peak MB, all", "largest process"], rows)


PEER_LOADS = """
import sys
kind, file, out = sys.argv[1:]
array, csv = "array" in file.split("/"), file.endswith(".csv")
from deltalake import write_deltalake
if kind == "duckdb":
    import duckdb
    db = duckdb.connect()
    db.execute("SET preserve_insertion_order = false")
    def stamp(c): return f"strptime({c}, '%Y-%m-%dT%H:%M:%S.%g%z')"
    if csv:
        sql = f"SELECT {stamp('start_at')} AS start_at, {stamp('end_at')} AS end_at, lower(movie_title) AS movie_title, user_email, TRY_CAST(size_mb AS double) AS size_mb FROM read_csv('{file}', header = true, all_varchar = true)"
    else:
        columns = "{content: 'STRUCT(text VARCHAR)', rating: 'STRUCT(rate BIGINT)', books: 'STRUCT(metadata STRUCT(title VARCHAR))[]', movies: 'STRUCT(title VARCHAR)[]', created: 'VARCHAR'}"
        sql = f"SELECT lower(content.text) AS text, CAST(rating.rate AS int) AS rate_value, list_transform(books, lambda x: lower(x.metadata.title)) AS book_titles, list_transform(movies, lambda x: lower(x.title)) AS movie_titles, {stamp('created')} AS created_at FROM read_json('{file}', format = '{'array' if array else 'newline_delimited'}', columns = {columns})"
    write_deltalake(out, db.sql(sql).to_arrow_reader(65536), mode="overwrite")
else:
    import polars as pl
    def stamp(c): return pl.col(c).str.to_datetime("%Y-%m-%dT%H:%M:%S%.3f%z", time_zone="UTC")
    if csv:
        made = pl.scan_csv(file, infer_schema=False).select(stamp("start_at"), stamp("end_at"), pl.col("movie_title").str.to_lowercase(), "user_email", pl.col("size_mb").cast(pl.Float64, strict=False))
    else:
        text = pl.String
        schema = {"content": pl.Struct({"text": text}), "rating": pl.Struct({"rate": pl.Int64}), "books": pl.List(pl.Struct({"metadata": pl.Struct({"title": text})})), "movies": pl.List(pl.Struct({"title": text})), "created": text}
        lazy = pl.read_json(file, schema=schema).lazy() if array else pl.scan_ndjson(file, schema=schema)
        made = lazy.select(pl.col("content").struct.field("text").str.to_lowercase(), pl.col("rating").struct.field("rate").cast(pl.Int32).alias("rate_value"),
            pl.col("books").list.eval(pl.element().struct.field("metadata").struct.field("title").str.to_lowercase()).alias("book_titles"),
            pl.col("movies").list.eval(pl.element().struct.field("title").str.to_lowercase()).alias("movie_titles"), stamp("created").alias("created_at"))
    made.collect(engine="streaming").write_delta(out, mode="overwrite")
"""


def peers(runs):
    interpreter, script = python(), WORK / "peer_loads.py"
    script.write_text(PEER_LOADS)
    rows = []
    for name in FILES:
        path = path_of(name)
        size = path.stat().st_size
        for kind in ("duckdb", "polars"):
            times = []
            for _ in range(runs):
                out = WORK / "peer-table"
                shutil.rmtree(out, ignore_errors=True)
                times.append(measured([interpreter, script, kind, path, out])[:3])
            wall, cpu, peak = medians(times)
            rows.append([name, f"{kind} + deltalake", f"{wall:.2f}", f"{cpu:.1f}", speed(size, wall), f"{peak / 1e6:,.0f}"])
    table("Peers, all cores: the same file into a Delta table, whole process", ["file", "peer", "load s", "CPU s", "load MB/s", "peak MB"], rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="1GB")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--executors", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--memory", default="512MB", help="memory pool of an executor")
    parser.add_argument("--only", nargs="+", choices=["core", "cluster", "peers"], default=["core", "cluster", "peers"])
    arguments = parser.parse_args()
    if not (BINARIES / "trireme-bench-raw").exists():
        raise SystemExit("error: no release binaries\nhint: cargo build --release --workspace")
    WORK.mkdir(parents=True, exist_ok=True)
    generate(arguments.size)
    print(f"{arguments.size} a day, {os.cpu_count()} cores, medians of {arguments.runs}, {', '.join(PACKAGES)}, {time.strftime('%Y-%m-%d')}")
    if "core" in arguments.only:
        core(arguments.runs)
    if "cluster" in arguments.only:
        clusters(arguments.runs, arguments.executors, arguments.memory)
    if "peers" in arguments.only:
        peers(arguments.runs)


if __name__ == "__main__":
    main()
