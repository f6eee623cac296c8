#!/usr/bin/env python3
"""Looks for wrong answers: random tables, random SELECTs, three clusters of Trireme's processes and DuckDB.

    tests/differential/run.py --seconds 120 | --hours 1 [--seed N] [--bin target/debug] [--without FEATURE,…] [--keep-going] [--out FILE]

Each round draws tables, writes them as Delta tables (one file each; and many, with row groups, statistics, partitions and deletion vectors as drawn)
and asks some hundred statements. `one` has one executor with one slot and the single files; `many` has two executors with two slots each, the many
files, tasks of single bytes; `shuffled` is `many` with joins that broadcast nothing. Their answers are compared with DuckDB's, rows and order, and,
where DuckDB can't say, with each other; of plain SELECTs, the rows of Q with those of Q WHERE p, WHERE NOT p and WHERE p IS NULL together.

Wrong answers, hangs, lost work and internal errors are findings: the statement and its tables are made as small as they can be while they still
fail, and printed with both answers. Exit code 1 when there is one. Other errors are counted by kind. `known.json` names refusals that are known.
Needs PyPI's duckdb, pyarrow and grpcio. The same seed draws the same statements."""

import argparse
import collections
import concurrent.futures
import dataclasses
import json
import os
import random
import re
import sys
import tempfile
import time

import compare
import data
from cluster import Cluster, Failure
from minimise import minimise
from oracle import Oracle, Refused, Undetermined
from queries import FEATURES, Queries
from report import Finding, skeleton
from tree import SPARK, Table
import tlp

HERE = os.path.dirname(os.path.abspath(__file__))
# Errors that are no refusals.
BAD = {"internal", "work-lost", "hang", "crash", "unreadable", "storage", "unknown", "conflict", "no-executors", "bad-value", "resources-exhausted"}
PER_ROUND = 120


class Run:
    def __init__(self, arguments):
        self.arguments = arguments
        self.seed = arguments.seed if arguments.seed is not None else random.SystemRandom().randrange(1 << 32)
        self.counts, self.errors, self.examples = collections.Counter(), collections.Counter(), {}
        self.findings = {}
        self.known = json.load(open(os.path.join(HERE, "known.json")))
        self.folder = tempfile.mkdtemp(prefix="trireme-differential-")
        self.names = 0
        self.pool = concurrent.futures.ThreadPoolExecutor(4)
        lake = os.path.join(self.folder, "many", "lake", "tables")
        small = ["--task-bytes", "1B"]
        clusters = [
            ("one", dict(executors=1, vcores=1, flags=["--target-partitions", "1"])),
            ("many", dict(executors=2, vcores=2, flags=small)),
            ("shuffled", dict(executors=2, vcores=1, flags=[*small, "--broadcast-bytes", "1B", "--target-partitions", "3"], tables=lake)),
        ]
        self.clusters = []
        os.makedirs(lake)
        for name, options in clusters:
            if name in arguments.clusters.split(","):
                self.clusters.append(Cluster(name, arguments.bin, self.folder, **options))

    # ---- One statement

    def ask(self, cluster, query, again=True):
        """An engine's rows, or its failure. After a hang the cluster is made anew: what hangs keeps its slots."""
        try:
            return compare.rows_of(cluster.ask(query.spell(SPARK), self.arguments.timeout))
        except Failure as failure:
            if failure.code in ("hang", "crash"):
                if cluster.died():
                    failure.message = f"{', '.join(cluster.died())} ended; {failure.message}"
                cluster.restart()
            if failure.code == "hang" and again and not any(key.startswith("hang") for key in self.findings):
                # A machine that has much else to do is slow, but not twice.
                self.arguments.timeout, before = 2 * self.arguments.timeout, self.arguments.timeout
                rows = self.ask(cluster, query, again=False)
                self.arguments.timeout = before
                return rows
            return failure

    def verdict(self, answer, found):
        """None, or (kind, what is wrong)."""
        if isinstance(found, Failure):
            return (found.code, found.message) if found.code in BAD else None
        problem = answer.wrong(found) if answer else None
        return ("wrong", problem) if problem else None

    def check(self, query, tables, oracle):
        text = query.spell(SPARK)
        self.counts["statements"] += 1
        try:
            answer = oracle.answer(query)
        except Undetermined:
            self.counts["undetermined"] += 1
            return
        except Refused as refused:
            self.counts["refused by DuckDB"] += 1
            self.count_error("duckdb", str(refused).split("\n")[0], text)
            answer = None
        rows = self.pool.map(lambda cluster: self.ask(cluster, query), self.clusters)
        found = {cluster.name: rows for cluster, rows in zip(self.clusters, rows)}
        failed = next((rows for rows in found.values() if isinstance(rows, Failure)), None)
        if failed:
            self.count_error(failed.code, failed.message, text)
        given = {name: rows for name, rows in found.items() if not isinstance(rows, Failure)}
        self.counts["answered" if given else "error"] += 1
        if answer:
            self.counts["compared with DuckDB"] += bool(given)
        for name, rows in found.items():
            verdict = self.verdict(answer, rows)
            if verdict and self.is_known(verdict):
                self.counts["known"] += 1
            elif verdict:
                self.report(query, tables, oracle, name, verdict, all_wrong=len(given) > 1 and all(self.verdict(answer, other) for other in given.values()))
                return
        if not answer and len(given) > 1 and " OVER " not in text and " LIMIT " not in text:
            first, *others = given.items()
            for name, rows in others:
                problem = compare.difference(first[1], rows)
                if problem:
                    self.report_pair(query, tables, first[0], name, problem)
                    return
        if given and self.rng.random() < 0.1:
            self.check_parts(query, tables)

    def check_parts(self, query, tables):
        parts = tlp.parts(query, self.generator)
        if parts is None:
            return
        self.counts["statements in three parts"] += 1
        cluster = self.clusters[-1]
        problem = tlp.problem(parts, lambda part: self.ask(cluster, part))
        if problem:
            self.finding("parts", cluster.name, problem, parts[0], tables, [("in parts", part.spell(SPARK)) for part in parts[1:]])

    def is_known(self, verdict):
        """Refusals only: a wrong answer is never known."""
        return verdict[0] != "wrong" and any(re.search(known["error"], verdict[1]) for known in self.known)

    def count_error(self, code, message, text):
        kind = f"{code}: {skeleton(message)}"
        self.errors[kind] += 1
        self.examples.setdefault(kind, text)

    # ---- Findings

    def report(self, query, tables, oracle, name, verdict, all_wrong):
        cluster = next(cluster for cluster in self.clusters if cluster.name == name)
        kind, problem = verdict
        early = f"{kind}: {skeleton(problem)}"
        if kind != "wrong" and early in self.findings:
            self.findings[early].times += 1
            return
        print(f"-- {kind} on {name}, making it smaller: {problem[:200]}", flush=True)
        scratch = Scratch(self, cluster)

        def fails(candidate, candidate_tables):
            try:
                answer = scratch.oracle(candidate_tables).answer(scratch.renamed(candidate))
            except (Undetermined, Refused):
                return False
            again = self.verdict(answer, self.ask(cluster, scratch.renamed(candidate)))
            return again is not None and again[0] == kind and (kind == "wrong" or skeleton(again[1]) == skeleton(problem))

        try:
            scratch.oracle(tables).answer(scratch.renamed(query))
            seconds = self.arguments.minimise_seconds
        except (Undetermined, Refused):
            seconds = 0
        if kind == "hang":
            seconds = min(seconds, 4 * self.arguments.timeout)
        if seconds:
            query, tables = minimise(query, tables, fails, seconds)
        if seconds and not fails(query, tables):
            self.counts["findings that came only once"] += 1
        extra = []
        for other in self.clusters:
            rows = self.ask(other, Scratch.place(self, other, query, tables))
            extra.append((other.name, rows))
        try:
            answer = scratch.oracle(tables).answer(scratch.renamed(query))
            extra.append(("DuckDB", [row[: len(row) - answer.hidden] for row in answer.rows]))
        except (Undetermined, Refused) as error:
            extra.append(("DuckDB", f"{type(error).__name__} {error}"))
        scratch.close()
        where = "all clusters" if all_wrong and kind == "wrong" else name
        self.finding(kind, where, problem, query, tables, extra, early if kind != "wrong" else None)

    def report_pair(self, query, tables, left, right, problem):
        self.finding("clusters differ", f"{left}/{right}", problem, query, tables, [])

    def finding(self, kind, where, problem, query, tables, extra, key=None):
        found = Finding(kind, where, problem, query, tables, extra, self.seed)
        key = key or f"{kind}: {found.signature()}"
        if key in self.findings:
            self.findings[key].times += 1
            return
        self.findings[key] = found
        self.counts["findings"] += 1
        text = found.text()
        print(text, flush=True)
        if self.arguments.out:
            with open(self.arguments.out, "a") as out:
                out.write(text + "\n")

    # ---- Rounds

    def write(self, tables):
        for cluster in self.clusters:
            if cluster.name != "shuffled" or all(other.name != "many" for other in self.clusters):
                for table in tables:
                    (data.write_single if cluster.name == "one" else data.write_many)(table, cluster.lake)

    def round(self, number, end):
        self.rng = random.Random(f"{self.seed}/{number}")
        tables = data.draw_tables(self.rng, f"d{number}")
        self.write(tables)
        oracle = Oracle(tables)
        for at in range(PER_ROUND):
            if time.time() > end:
                break
            # A statement hangs on the seed and its number only, not on what came of others.
            self.rng = random.Random(f"{self.seed}/{number}/{at}")
            self.generator = Queries(self.rng, tables, self.arguments.without)
            query = self.generator.statement()
            if self.arguments.only is not None and at != self.arguments.only:
                continue
            self.place = f"{number}/{at}"
            if self.arguments.verbose:
                print(f"{self.place} {query.spell(SPARK)}", flush=True)
            self.check(query, tables, oracle)
            if self.findings and not self.arguments.keep_going:
                break
        oracle.close()

    def go(self):
        print(f"seed {self.seed}", flush=True)
        started, number = time.time(), self.arguments.round
        end = started + self.arguments.seconds
        try:
            while time.time() < end and (self.arguments.keep_going or not self.findings):
                self.round(number, end)
                number += 1
                if self.arguments.only is not None:
                    break
                print(f"round {number}: {dict(self.counts)} in {time.time() - started:.0f} s", flush=True)
        finally:
            for cluster in self.clusters:
                cluster.stop()
        print(f"seed {self.seed}, {time.time() - started:.0f} s: {dict(self.counts)}")
        for kind, count in self.errors.most_common(self.arguments.errors):
            print(f"{count:6} {kind}\n       {self.examples[kind][:4000]}")
        return 1 if self.findings else 0


class Scratch:
    """Tables of candidates, each set under a schema of its own, so that nothing is replaced under a query."""

    def __init__(self, run, cluster):
        self.run, self.cluster = run, cluster
        self.kept, self.known = None, None

    def oracle(self, tables):
        key = tuple((table.name, len(table.rows), str(table.layout), str(table.columns), hash(str(table.rows))) for table in tables)
        if key != self.known:
            self.close()
            self.schema = self.fresh(tables, self.cluster)
            self.kept, self.known = Oracle(renamed_tables(tables, self.schema)), key
        return self.kept

    def fresh(self, tables, cluster):
        self.run.names += 1
        schema = f"m{self.run.names}"
        for table in renamed_tables(tables, schema):
            (data.write_single if cluster.name == "one" else data.write_many)(table, cluster.lake)
        return schema

    def renamed(self, query):
        return renamed_query(query, self.schema)

    @staticmethod
    def place(run, cluster, query, tables):
        schema = Scratch(run, cluster).fresh(tables, cluster)
        return renamed_query(query, schema)

    def close(self):
        if self.kept:
            self.kept.close()
        self.kept = None


def renamed_tables(tables, schema):
    return [dataclasses.replace(table, name=f"{schema}.{table.name.split('.')[1]}") for table in tables]


def renamed_query(node, schema):
    """A tree with its tables in another schema."""
    if isinstance(node, tuple):
        return tuple(renamed_query(item, schema) for item in node)
    if isinstance(node, Table):
        return dataclasses.replace(node, name=f"{schema}.{node.name.split('.')[1]}") if "." in node.name else node
    if dataclasses.is_dataclass(node):
        return dataclasses.replace(node, **{field.name: renamed_query(getattr(node, field.name), schema) for field in dataclasses.fields(node)})
    return node


def main():
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("--seconds", type=float, default=120)
    parse.add_argument("--hours", type=float)
    parse.add_argument("--seed", type=int)
    parse.add_argument("--bin", default=os.environ.get("TRIREME_BIN_DIR", os.path.join(HERE, "../../target/debug")))
    parse.add_argument("--clusters", default="one,many,shuffled")
    parse.add_argument("--without", default="", help=f"features to leave out, of {', '.join(FEATURES)}")
    parse.add_argument("--keep-going", action="store_true", help="go on after a finding")
    parse.add_argument("--timeout", type=float, default=30, help="seconds after which a statement hangs")
    parse.add_argument("--minimise-seconds", type=float, default=60)
    parse.add_argument("--round", type=int, default=0, help="first round")
    parse.add_argument("--only", type=int, help="this statement of the round only")
    parse.add_argument("--errors", type=int, default=25, help="kinds of errors to print")
    parse.add_argument("--out", help="file to add findings to")
    parse.add_argument("--verbose", action="store_true")
    arguments = parse.parse_args()
    arguments.without = [feature for feature in arguments.without.split(",") if feature]
    if arguments.hours:
        arguments.seconds, arguments.keep_going = arguments.hours * 3600, True
    sys.exit(Run(arguments).go())


if __name__ == "__main__":
    main()
