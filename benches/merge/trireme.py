"""A cluster over a lake, and what its jobs cost."""

import re
from datetime import datetime

from common import AUTHORS, BOOKS, MOVIES, REPOSITORY, REVIEWS, REVIEWS_SCHEMA, STREAMS, Cluster, Failed
from results import Cost

# table: source file, expressions, key, filter
TABLES = {
    "stream.streams": ("streams.csv", STREAMS, "start_at", None),
    "vendor.reviews": ("reviews.json", REVIEWS, "created_at", "created IS NOT NULL"),
    "stream.movies": ("movies.csv", MOVIES, "title", None),
    "vendor.books": ("books.json", BOOKS, "name", None),
    "vendor.authors": ("authors.json", AUTHORS, "name", "metadata.name IS NOT NULL"),
}
SCHEMAS = {"vendor.reviews": REVIEWS_SCHEMA}
LARGE, SMALL = list(TABLES)[:2], list(TABLES)[2:]


class Trireme:
    """A fresh cluster; for `with`."""

    def __init__(self, options, folder, lake):
        flags = {"scheduler_flags": options.scheduler_flag, "executor_flags": options.executor_flag}
        self.folder = folder
        self.cluster = Cluster(options.executors, options.memory, folder / "cluster", lake, options.bin_dir, **flags)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        # Logs stay until the next cluster starts.
        self.cluster.stop(keep=True)

    def measured(self, *arguments):
        """A job's cost from submit to done."""
        self.cluster.forget_peaks()
        cpu = self.cluster.cpu()
        job = self.cluster.job(*arguments)
        cost = Cost(seconds(job.get("parts") or [job]), self.cluster.cpu() - cpu, sum(self.cluster.peaks()))
        if any(process.poll() is not None for process in self.cluster.processes):
            raise Failed(f"a process of the cluster has ended, see {self.cluster.folder}")
        if any(part.get("outcome") != "applied" for part in job.get("parts") or [job]):
            raise Failed(f"{' '.join(map(str, arguments[:5]))} … was not applied")
        return cost

    def download(self, name, file):
        return self.measured("download", "--from", f"file://{file}", "--to", name)

    def apply(self, what, name, table=None, typed=True):
        """`load` or `merge` of a source's current version into the table of the same name, or another."""
        _, columns, key, where = TABLES[name]
        flags = [flag for column in columns for flag in ("-t", column)] + (["--where", where] if where else [])
        # Peers are told the types, too.
        if typed and name in SCHEMAS:
            flags += ["--schema", SCHEMAS[name]]
        return self.measured(what, "--table", table or name, "--source", name, "--pk", key, *flags)

    def load_small(self, folder):
        for name in SMALL:
            self.download(name, folder / TABLES[name][0])
            self.apply("load", name)

    def ask(self):
        questions = sorted((REPOSITORY / "examples/books-and-movies/questions").glob("*.sql"))
        lines = [f"  analytics.{file.stem[2:].replace('-', '_')}: {{ sql: {file} }}" for file in questions]
        pipeline = self.folder / "questions.yaml"
        pipeline.write_text("\n".join(["name: questions", "questions:", *lines, ""]))
        return self.measured("run", pipeline)


def seconds(jobs):
    """From the first submit to the last end."""
    def moment(text):
        return datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", text).replace("Z", "+00:00"))
    return (max(moment(job["ended_at"]) for job in jobs) - min(moment(job["submitted_at"]) for job in jobs)).total_seconds()


def has_vectors(lake, name):
    """Whether any commit of a table has a deletion vector."""
    log = lake / "tables" / name.replace(".", "/") / "_delta_log"
    return any('"deletionVector":{' in commit.read_text() for commit in log.glob("*.json"))
