"""What the benches share: generated days, virtual environments of peers, processes and what they cost, a cluster of release binaries, tables.

Standard library only: peers' interpreters import it, too."""

import json
import os
import resource
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
BINARIES = REPOSITORY / "target/release"
WORK = REPOSITORY / "target/bench"
TICK = os.sysconf("SC_CLK_TCK")
PAGE = resource.getpagesize()

# The expressions of examples/books-and-movies/pipeline.yaml.
STREAMS = ["to_timestamp(start_at) AS start_at", "to_timestamp(end_at) AS end_at", "lower(movie_title) AS movie_title", "user_email",
           "CAST(size_mb AS double) AS size_mb"]
REVIEWS = ["lower(content.text) AS text", "CAST(rating.rate AS int) AS rate_value",
           "transform(books, x -> lower(x.metadata.title)) AS book_titles", "transform(movies, x -> lower(x.title)) AS movie_titles",
           "to_timestamp(created) AS created_at"]
REVIEWS_SCHEMA = ("content struct<text: string>, rating struct<rate: bigint>, books array<struct<metadata: struct<title: string>>>,"
                  " movies array<struct<title: string>>, created string")
MOVIES = ["lower(title) AS title", "CAST(duration_mins AS int) AS duration_mins", "lower(original_language) AS original_language",
          "CAST(size_mb AS double) AS size_mb"]
BOOKS = ["lower(name) AS name", "lower(author) AS author", "lower(publisher) AS publisher", "CAST(pages AS int) AS pages"]
AUTHORS = ["lower(metadata.name) AS name", "to_timestamp(metadata.birth_date) AS birth_date", "to_timestamp(metadata.died_at) AS died_at",
           "transform(nationalities, x -> lower(x.label)) AS nationality_labels"]


class Failed(Exception):
    """A process that did not do what was asked of it; the text says why."""


# Data and environments.

def generate(folder, size, layout, days, binaries=BINARIES):
    """The folder with day-1, day-2, …, made if it is not there yet."""
    folder, mark = Path(folder), Path(folder) / f".{size}-{layout}-{days}"
    if not mark.exists():
        shutil.rmtree(folder, ignore_errors=True)
        command = [binaries / "trireme-sample", "--size", size, "--days", days, "--seed", 7, "--json", layout, "--out", folder]
        subprocess.run(list(map(str, command)), check=True, stderr=subprocess.DEVNULL)
        mark.touch()
    return folder


def python(name, packages):
    """The interpreter of a virtual environment that has these packages; they carry their versions."""
    venv = WORK / f"venv-{name}"
    mark = venv / ("-".join(packages).replace("==", "_") + ".installed")
    if not mark.exists():
        shutil.rmtree(venv, ignore_errors=True)
        venv.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run([sys.executable, "-m", "venv", venv], check=True)
        subprocess.run([venv / "bin/pip", "install", "--quiet", "--disable-pip-version-check", *packages], check=True)
        mark.touch()
    return venv / "bin/python"


# What processes cost.

def measured(command, environment=None):
    """Runs a process to its end: wall seconds, CPU seconds, peak resident bytes, what it printed."""
    started = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, **(environment or {})})
    printed = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(map(str, command))} ended with {process.returncode}")
    return time.monotonic() - started, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024, printed


def guarded(command, log, memory, seconds, environment=None):
    """What a process printed. It is killed, with all its children, when together they hold more than `memory` bytes, or after `seconds`."""
    with open(log, "ab") as errors, open(log.with_suffix(".out"), "w+b") as out:
        process = subprocess.Popen(list(map(str, command)), stdout=out, stderr=errors, start_new_session=True,
                                   env={**os.environ, **(environment or {})})
        deadline, why = time.monotonic() + seconds, None
        try:
            while process.poll() is None and not why:
                time.sleep(0.1)
                if resident_bytes(tree(process.pid)) > memory:
                    why = f"more than {memory / 1e9:.1f} GB of memory"
                elif time.monotonic() > deadline:
                    why = f"more than {seconds:.0f} s"
        finally:
            try:
                os.killpg(process.pid, signal.SIGKILL)  # children too, if it has ended before them
            except ProcessLookupError:
                pass
            process.wait()
        if why or process.returncode:
            raise Failed(why or f"ended with {process.returncode}, see {log}")
        out.seek(0)
        return out.read().decode()


def tree(root):
    """The ids of a process and of all below it."""
    parents = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                parents.setdefault(int(stat_fields(folder.name)[1]), []).append(int(folder.name))
            except OSError:  # it has ended meanwhile
                pass
    found = [root]
    for process in found:
        found += parents.get(process, [])
    return found


def stat_fields(process):
    return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()


def total(processes, one):
    def value(process):
        try:
            return one(process)
        except (OSError, StopIteration):  # it has ended meanwhile
            return 0
    return sum(map(value, processes))


def resident_bytes(processes):
    return total(processes, lambda process: int(Path(f"/proc/{process}/statm").read_text().split()[1]) * PAGE)


def cpu_seconds(processes):
    return total(processes, lambda process: sum(map(int, stat_fields(process)[11:13])) / TICK)


def peak_bytes(process):
    line = next(line for line in Path(f"/proc/{process}/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def forget_peak(process):
    """What a process holds now is its peak from here on."""
    Path(f"/proc/{process}/clear_refs").write_text("5")


# Tables.

def medians(runs):
    return [statistics.median(column) for column in zip(*runs)]


def table(title, head, rows):
    print(f"\n{title}\n")
    print("| " + " | ".join(head) + " |")
    print("|" + "---|" * len(head))
    for row in rows:
        print("| " + " | ".join(str(cell) for cell in row) + " |", flush=True)


# Clusters.

def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Cluster:
    """A scheduler and executors of one vcore, as child processes. `folder` holds their logs and, if no other is named, the lake."""

    def __init__(self, executors, memory, folder=WORK / "cluster", lake=None, binaries=BINARIES, scheduler_flags=(), executor_flags=()):
        self.binaries, self.folder = Path(binaries), Path(folder)
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self.lake = Path(lake or self.folder / "lake")
        ballista, api = free_port(), free_port()
        self.url = f"http://127.0.0.1:{api}"
        self.processes = []
        try:
            self.start("scheduler", "--ballista-port", ballista, "--api-port", api, "--allowed-origins", "*", *scheduler_flags)
            self.wait("the scheduler", lambda: self.client("tables", "list", check=False).returncode == 0)
            for n in range(executors):
                self.start("executor", "--scheduler", f"127.0.0.1:{ballista}", "--port", 0, "--grpc-port", 0, "--vcores", 1,
                           "--memory-pool-size", memory, *executor_flags, log=f"executor-{n}")
            for n in range(executors):
                log = self.folder / f"executor-{n}.log"
                self.wait(f"executor {n}", lambda: b"registration succeed" in log.read_bytes())
        except BaseException:
            self.stop(keep=True)
            raise

    def wait(self, what, ready):
        for _ in range(100):
            if ready():
                return
            if any(process.poll() is not None for process in self.processes):
                break
            time.sleep(0.2)
        raise Failed(f"{what} did not start, see {self.folder}")

    def start(self, what, *flags, log=None):
        with open(self.folder / f"{log or what}.log", "wb") as out:
            command = [self.binaries / f"trireme-{what}", "--storage", self.lake, *flags]
            self.processes.append(subprocess.Popen(list(map(str, command)), stdout=out, stderr=out))

    def client(self, *arguments, check=True):
        command = [self.binaries / "trireme", "--scheduler", self.url, "--output", "json", *map(str, arguments)]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        if check and done.returncode:
            raise Failed(f"trireme {' '.join(map(str, arguments[:5]))} … ended with {done.returncode}: {done.stdout.decode()[-2000:].strip()}")
        return done

    def job(self, *arguments):
        return json.loads(self.client(*arguments).stdout)

    def cpu(self):
        return cpu_seconds(process.pid for process in self.processes)

    def peaks(self):
        return [peak_bytes(process.pid) for process in self.processes]

    def forget_peaks(self):
        for process in self.processes:
            forget_peak(process.pid)

    def stop(self, keep=False):
        """Ends the processes; a lake in the cluster's own folder goes with it."""
        for process in self.processes:
            process.send_signal(signal.SIGTERM)
        for process in self.processes:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if not keep:
            shutil.rmtree(self.folder, ignore_errors=True)
