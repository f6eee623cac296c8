#!/usr/bin/env python3
"""How fast days are loaded, merged and asked about, against other engines in the same run.

    cargo build --release --workspace && benches/merge/run.py [--size 1GB] [--runs 3] [--only PART...] [--peers PEER...]

Parts are `day` (a day is loaded, the next one merged, six questions asked), `smallest` (the fixed cost of a job), `tendays` (a day is merged into a
table of ten), `questions` (asked of that table, with and without deletion vectors) and `large` (a day of --large, Trireme alone). Peers are duckdb,
deltalake, polars, daft, sail and spark; Spark needs a JDK and, in the folder that DELTA_JARS names, the jars of Delta (delta-spark, delta-storage).

Needs Linux, python3, PyPI (an environment for each peer is made under target/bench) and disk: 30 times SIZE, and 5 times LARGE.

What is measured: a cluster's jobs from submit to done, and a step of a peer, a process of its own, from when it is imported and has a session. CPU
seconds and peak memory are those of whole processes, all threads and children: of the peer, or of scheduler and executors together (their peaks in
that step added up, which is an upper bound). What is not counted is told below the table. Figures are medians over RUNS, in which rows take turns.
Trireme's first load is a merge into a new table. All are told the types of JSON, except where it says so. Every table's rows and checksum are compared with what the raw files say, and all answers with each
other; who has them wrong, or fails, is not in the tables but below them, and the exit code is 1 if that is Trireme.
"""

import argparse
import json
import os
import shutil
import signal
import statistics
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
import common  # noqa: E402
from common import BINARIES, WORK, Failed, table  # noqa: E402
from results import CASES, STEPS, Cost, Results, gigabytes, shown, targets  # noqa: E402
from rows import DELTA, LAYOUTS, PEERS, TRIREME, WITH_VECTORS, WITHOUT_VECTORS, asked, ours, usable, with_reviews, without_reviews  # noqa: E402
from trireme import LARGE, SMALL, TABLES, Trireme, has_vectors  # noqa: E402

FOLDER = WORK / "merge"
LAKE = FOLDER / "lake"


class Bench:
    """What was measured, and what went wrong."""

    def __init__(self, options):
        self.options, self.results = options, Results()
        self.notes, self.answers, self.dead, self.failed = [], {}, set(), False
        self.log = FOLDER / "log"
        self.log.unlink(missing_ok=True)

    def rounds(self, part, rows, work, runs=None):
        """Measures rows in turns; one that fails is left out from then on."""
        for number in range(runs or self.options.runs):
            for row in rows:
                if (part, row) in self.dead:
                    continue
                print(f"{time.strftime('%H:%M:%S')} {part} {number + 1}: {row.title.replace('*', '')}", file=sys.stderr, flush=True)
                try:
                    work(row)
                except Failed as failure:
                    self.dead.add((part, row))
                    self.results.forget(part, row)
                    self.notes.append(f"{row.title} is not in the tables of `{part}`: {failure}")
                    self.failed |= row.peer is None
        shutil.rmtree(LAKE, ignore_errors=True)

    def cluster(self, lake):
        return Trireme(self.options, FOLDER, lake)

    def script(self, environment, packages, file, *arguments):
        interpreter = common.python(environment, packages)
        settings = {"PYTHONPATH": f"{HERE.parent}{os.pathsep}{HERE}", "DAFT_PROGRESS_BAR": "0"}
        printed = common.guarded([interpreter, HERE / file, *arguments], self.log, self.options.max_memory, self.options.timeout, settings)
        return json.loads(printed) if printed.strip() else None

    def helper(self, file, *arguments):
        return self.script("deltalake", DELTA, file, *arguments)

    def step(self, part, row, name, lake, *file, step=None):
        """A step of a peer, with the name that it has in the results."""
        peer = PEERS[row.peer]
        done = self.script(peer.environment, peer.packages, "peers.py", row.peer, step or name, lake, *file, *row.settings)
        self.results.add(part, row, name, Cost(done["wall"], done["cpu"], done["peak"]))
        self.results.add(part, row, "start", Cost(done["start_wall"], done["start_cpu"], 0))

    def expected(self, folder):
        """What merging two days must give."""
        return {name: self.helper("check.py", "raw", name.split(".")[1], *(folder / f"day-{number}" / TABLES[name][0] for number in (1, 2)))
                for name in LARGE}

    def check(self, name, lake, expected):
        found = self.helper("check.py", "table", name.split(".")[1], lake)
        if found != expected:
            raise Failed(f"{name} has rows and checksum {found}, not {expected}")

    def check_answers(self, part, lake):
        found = self.helper("check.py", "answers", lake)
        if found != self.answers.setdefault(part, found):
            raise Failed(f"the answers are {found}, not {self.answers[part]}")


def days(options, size, layout):
    """The folder with two generated days."""
    return common.generate(FOLDER / f"days-{size}" / layout, size, layout, 2, options.bin_dir)


def fresh(folder):
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def linked(folder, copy):
    """A copy whose files are links: nobody writes a file of a lake in place."""
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(folder, copy, copy_function=os.link)
    return copy


# A day, and a large one.

def merge_days(bench, part, row, cluster, folder):
    """Day 1 is merged into new tables, day 2 into what is there."""
    for number, step in ((1, "load"), (2, "merge")):
        for name in LARGE:
            kind = name.split(".")[1]
            bench.results.add(part, row, f"download-{kind}", cluster.download(name, folder / f"day-{number}" / TABLES[name][0]))
            bench.results.add(part, row, f"{step}-{kind}", cluster.apply("merge", name))


def day(bench, options):
    folders = {layout: days(options, options.size, layout) for layout in options.layouts}
    expected = bench.expected(next(iter(folders.values())))
    results = bench.results

    def peer(row):
        fresh(LAKE)
        for step in STEPS:
            number = 1 if step.startswith("load") else 2
            file = "streams.csv" if step.endswith("streams") else "reviews.json"
            bench.step("day", row, step, LAKE, folders[row.layout] / f"day-{number}" / file)
        if PEERS[row.peer].asks:
            for name in SMALL:
                bench.helper("peers.py", "duckdb", f"load-{name.split('.')[1]}", LAKE, folders[row.layout] / "day-2" / TABLES[name][0])
            bench.step("day", row, "questions", LAKE)
            bench.check_answers("day", LAKE)

    def trireme(row):
        with bench.cluster(fresh(LAKE)) as cluster:
            merge_days(bench, "day", row, cluster, folders[row.layout])
            cluster.load_small(folders[row.layout] / "day-2")
            results.add("day", row, "questions", cluster.ask())
            for name in LARGE:
                kind = name.split(".")[1]
                results.add("day", row, f"plain-load-{kind}", cluster.apply("load", name, table=f"loaded.{kind}", typed=False))
        bench.check_answers("day", LAKE)

    def measure(row):
        (peer if row.peer else trireme)(row)
        for name in LARGE:
            bench.check(name, LAKE, expected[name])

    bench.rounds("day", with_reviews(options), measure)
    lines, asides = [], []
    for row in results.rows("day"):
        four, questions = results.cost("day", row, *STEPS), results.cost("day", row, "questions")
        lines.append([row.title, *(shown(results.cost("day", row, step)) for step in STEPS), shown(questions), shown(four),
                      gigabytes(max(four, questions or four, key=lambda cost: cost.peak))])

        def both(step):
            return " and ".join(shown(results.cost("day", row, f"{step}-{name.split('.')[1]}")) for name in LARGE)
        if row.peer:
            asides.append(f"{row.title}, start of each step {shown(results.cost('day', row, 'start'))}")
        else:
            asides.append(f"{row.title}, downloads {both('download')}, loads as jobs of `load`, types inferred, {both('plain-load')}")
    table(f"A day of {options.size}, and the next one merged into it: wall s / CPU s",
          ["", "load streams", "load reviews", "merge streams", "merge reviews", "six questions", "the four together", "peak GB"], lines)
    if asides:
        print(f"\nNot counted: {'; '.join(asides)}.", flush=True)


def large(bench, options):
    folder = days(options, options.large, "ndjson")
    expected, row = bench.expected(folder), ours(options)[-1]

    def measure(row):
        with bench.cluster(fresh(LAKE)) as cluster:
            merge_days(bench, "large", row, cluster, folder)
        for name in LARGE:
            bench.check(name, LAKE, expected[name])

    bench.rounds("large", [row], measure, options.large_runs)
    if options.large != options.size:
        shutil.rmtree(folder.parent)
    four = bench.results.cost("large", row, *STEPS)
    if four:
        table(f"A day of {options.large}, and the next one merged into it: wall s / CPU s (runs: {options.large_runs})",
              ["", "load streams", "load reviews", "merge streams", "merge reviews", "the four together", "peak GB"],
              [[row.title, *(shown(bench.results.cost("large", row, step)) for step in STEPS), shown(four), gigabytes(four)]])


# Ten days.

class TenDays:
    """The deliveries, and the lakes that hold ten of them."""

    def __init__(self, bench, options):
        self.bench, self.lakes = bench, {}
        self.day = days(options, options.size, options.layouts[0]) / "day-1"
        self.folder = FOLDER / f"days-{options.size}" / "ten"
        if not (self.folder / "expected.json").exists():
            shutil.rmtree(self.folder, ignore_errors=True)
            bench.helper("days.py", self.day, self.folder)
        self.expected = json.loads((self.folder / "expected.json").read_text())

    def peers_lake(self):
        return linked(self.folder / "base", LAKE)

    def trireme_lake(self, vectors):
        """Ten merges, with deletion vectors or copy-on-write, made once."""
        if vectors not in self.lakes:
            lake = fresh(FOLDER / ("ten-with-vectors" if vectors else "ten-copied"))
            if not vectors:
                self.bench.helper("days.py", "copy-on-write", lake)
            with self.bench.cluster(lake) as cluster:
                for number in range(1, 11):
                    cluster.download("stream.streams", self.folder / f"day-{number}.csv")
                    cluster.apply("merge", "stream.streams")
                cluster.load_small(self.day)
            self.bench.check("stream.streams", lake, self.expected["base"])
            if has_vectors(lake, "stream.streams") != vectors:
                self.bench.notes.append(f"Trireme's table {'without any' if vectors else 'with'} deletion vectors was measured as the other kind")
            self.lakes[vectors] = lake
        return linked(self.lakes[vectors], LAKE)

    def drop(self):
        for lake in self.lakes.values():
            shutil.rmtree(lake)


def tendays(bench, options, ten):
    def measure(row):
        for case in CASES:
            file = ten.folder / f"{case}.csv"
            if row.peer:
                bench.step("tendays", row, case, ten.peers_lake(), file, step="merge-streams")
            else:
                with bench.cluster(ten.trireme_lake(vectors=True)) as cluster:
                    cluster.download("stream.streams", file)
                    bench.results.add("tendays", row, case, cluster.apply("merge", "stream.streams"))
            bench.check("stream.streams", LAKE, ten.expected[case])

    bench.rounds("tendays", without_reviews(options), measure)
    lines = []
    for row in bench.results.rows("tendays"):
        costs = [bench.results.cost("tendays", row, case) for case in CASES]
        lines.append([row.title, *(cell for cost in costs for cell in (shown(cost), gigabytes(cost)))])
    table(f"A day's streams merged into a table of ten days ({ten.expected['base'][0] / 1e6:.1f} M rows): wall s / CPU s, and peak GB",
          ["", CASES["near"], "GB", CASES["far"], "GB"], lines)


def questions(bench, options, ten):
    def measure(row):
        if row.peer:
            bench.step("questions", row, "questions", ten.peers_lake())
        else:
            with bench.cluster(ten.trireme_lake(vectors=row == WITH_VECTORS)) as cluster:
                bench.results.add("questions", row, "questions", cluster.ask())
        bench.check_answers("questions", LAKE)

    bench.rounds("questions", asked(options), measure)
    costs = [(row, bench.results.cost("questions", row, "questions")) for row in bench.results.rows("questions")]
    table("Six questions on the table of ten days: wall s / CPU s", ["", "six questions", "peak GB"],
          [[row.title, shown(cost), gigabytes(cost)] for row, cost in costs])


# The smallest job.

def smallest(bench, options):
    file = FOLDER / "smallest.json"

    def measure(row):
        with bench.cluster(fresh(LAKE)) as cluster:
            for number in range(6):
                file.write_text("".join(f'{{"k": {number + n}, "v": "value {number}"}}\n' for n in range(3)))
                cluster.download("small.rows", file)
                began = time.monotonic()
                cost = cluster.measured("merge", "--table", "small.rows", "--source", "small.rows", "--pk", "k")
                if number:  # the first one makes the table
                    bench.results.add("smallest", row, "job", cost)
                    bench.results.add("smallest", row, "command", Cost(time.monotonic() - began, 0, 0))

    bench.rounds("smallest", [TRIREME], measure)
    file.unlink(missing_ok=True)
    jobs = sorted(1000 * cost.wall for cost in bench.results.runs("smallest", TRIREME, "job"))
    if jobs:
        command = statistics.median(1000 * cost.wall for cost in bench.results.runs("smallest", TRIREME, "command"))
        cpu = 1000 * bench.results.cost("smallest", TRIREME, "job").cpu
        table(f"The smallest job: 3 rows of NDJSON merged into a small table, {len(jobs)} times, ms",
              ["submit → done", "least", "most", "CPU", "the command, from start to exit"],
              [[f"{value:.0f}" for value in (statistics.median(jobs), jobs[0], jobs[-1], cpu, command)]])


def arguments():
    parts = ["day", "smallest", "tendays", "questions", "large"]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="1GB", help="raw size of a day")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=parts, default=parts, metavar="PART")
    parser.add_argument("--peers", nargs="*", choices=list(PEERS), default=list(PEERS), metavar="PEER")
    parser.add_argument("--no-trireme", dest="trireme", action="store_false", help="measure the peers alone")
    parser.add_argument("--layouts", nargs="+", choices=list(LAYOUTS), default=list(LAYOUTS), help="of the reviews")
    parser.add_argument("--large", default="8GB", help="raw size of the large day")
    parser.add_argument("--large-runs", type=int, default=1)
    parser.add_argument("--bin-dir", type=Path, default=BINARIES, help="where Trireme's binaries are")
    parser.add_argument("--executors", type=int, default=2)
    parser.add_argument("--memory", default="512MB", help="memory pool of an executor")
    parser.add_argument("--scheduler-flag", action="append", default=[], help="such as --scheduler-flag=--split-size=32MiB (repeatable)")
    parser.add_argument("--executor-flag", action="append", default=[], help="(repeatable)")
    parser.add_argument("--max-memory", type=float, default=0.85 * memory, help="bytes at which a peer is ended (85 %% of this machine's)")
    parser.add_argument("--timeout", type=float, default=1800, help="seconds after which a peer's step is ended")
    return parser.parse_args()


def main():
    options = arguments()
    needed = ["trireme-sample"] + ["trireme", "trireme-scheduler", "trireme-executor"] * options.trireme
    missing = [name for name in needed if not (options.bin_dir / name).exists()]
    if missing:
        raise SystemExit(f"error: {options.bin_dir} has no {', '.join(missing)}\nhint: cargo build --release --workspace")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is ended
    FOLDER.mkdir(parents=True, exist_ok=True)
    options.peers = list(usable(options.peers))
    flags = " ".join(["", *options.scheduler_flag, *options.executor_flag])
    versions = sorted({package.replace("==", " ") for name in options.peers for package in PEERS[name].packages})
    print(f"{options.size} a day, {os.cpu_count()} cores, medians of {options.runs}, {time.strftime('%Y-%m-%d')}."
          f" Trireme: {options.executors} executors of 1 vcore and {options.memory}{flags}. Peers, on all cores:"
          f" {', '.join(versions)}.", flush=True)
    bench = Bench(options)
    if "day" in options.only:
        day(bench, options)
    if "smallest" in options.only and options.trireme:
        smallest(bench, options)
    if {"tendays", "questions"} & set(options.only):
        ten = TenDays(bench, options)
        try:
            if "tendays" in options.only:
                tendays(bench, options, ten)
            if "questions" in options.only:
                questions(bench, options, ten)
        finally:
            ten.drop()
    if "large" in options.only and options.trireme:
        large(bench, options)
    lines = targets(bench.results, options)
    if lines:
        table("Targets", ["work", "target", "measured ratio", "met?"], lines)
    for note in bench.notes:
        print(f"\n{note}")
    raise SystemExit(1 if bench.failed else 0)


if __name__ == "__main__":
    main()
