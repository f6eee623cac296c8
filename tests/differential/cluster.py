"""A scheduler with its executors as child processes, and SQL through its public API."""

import os
import re
import shutil
import signal
import socket
import subprocess
import time

os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

import grpc  # noqa: E402: reads the environment
import pyarrow as pa


class Failure(Exception):
    """An error that an engine gave; `code` is Trireme's, or `hang`, `crash`."""

    def __init__(self, code, message):
        super().__init__(f"{code}: {message}")
        self.code, self.message = code, message


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def bind_to_parent():
    """The kernel ends the child with this process."""
    import ctypes

    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


class Cluster:
    def __init__(self, name, binaries, folder, executors=1, vcores=1, flags=(), tables=None):
        self.name, self.binaries, self.folder = name, binaries, os.path.join(folder, name)
        self.executors, self.vcores, self.flags = executors, vcores, list(flags)
        self.lake = os.path.join(self.folder, "lake")
        os.makedirs(self.lake, exist_ok=True)
        if tables:
            os.symlink(tables, os.path.join(self.lake, "tables"))
        self.processes, self.starts = [], 0
        self.start()

    def start(self):
        self.starts += 1
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("TRIREME_", "AWS_")) and not name.endswith("_proxy")}
        api, ballista = free_port(), free_port()
        run = lambda log, *command: self.processes.append(
            subprocess.Popen(
                command, env=environment, preexec_fn=bind_to_parent, stdin=subprocess.DEVNULL,
                stdout=open(os.path.join(self.folder, log), "a"), stderr=subprocess.STDOUT,
            )
        )
        run(
            "scheduler.log", f"{self.binaries}/trireme-scheduler", "--storage", self.lake, "--api-port", str(api), "--ballista-port", str(ballista),
            "--allowed-origins", "*", "--min-executors", str(self.executors), *self.flags,
        )
        for at in range(self.executors):
            work = os.path.join(self.folder, f"work-{self.starts}-{at}")
            os.makedirs(work)
            run(
                f"executor-{at}.log", f"{self.binaries}/trireme-executor", "--storage", self.lake, "--scheduler", f"127.0.0.1:{ballista}",
                "--port", "0", "--grpc-port", "0", "--vcores", str(self.vcores), "--memory-pool-size", "500MB", "--work-dir", work,
            )
        self.url = f"127.0.0.1:{api}"
        self.channel = grpc.insecure_channel(self.url, options=[("grpc.max_receive_message_length", -1), ("grpc.max_metadata_size", 1 << 20)])
        self.call = self.channel.unary_stream("/trireme.v1.Query/Sql", request_serializer=encode, response_deserializer=decode)
        self.wait()

    def wait(self):
        end = time.time() + 120
        while True:
            try:
                self.ask("SELECT 1 AS one", 10)
                return
            except Failure as failure:
                ended = [process.args[0] for process in self.processes if process.poll() is not None]
                if time.time() > end or ended:
                    raise RuntimeError(f"cluster {self.name} did not start ({', '.join(ended)}): {failure}\n{self.log()}")
                time.sleep(0.2)

    def ask(self, sql, timeout):
        """The answer to a SELECT as Arrow."""
        try:
            data = b"".join(self.call(sql, timeout=timeout, wait_for_ready=True))
            with pa.ipc.open_stream(data) as reader:
                return reader.read_all()
        except grpc.RpcError as error:
            raise failure_of(error) from None
        except pa.ArrowException as error:
            raise Failure("unreadable", str(error)) from None

    def died(self):
        return [process.args[0] for process in self.processes if process.poll() is not None]

    def log(self):
        try:
            with open(os.path.join(self.folder, "scheduler.log"), errors="replace") as log:
                return "".join(log.readlines()[-20:])
        except OSError:
            return ""

    def stop(self):
        self.channel.close()
        for process in self.processes:
            process.kill()
            process.wait()
        self.processes = []

    def restart(self):
        """All new processes, after a hang or a crash. The journal of the old ones is dropped."""
        self.stop()
        shutil.rmtree(os.path.join(self.lake, "jobs"), ignore_errors=True)
        self.start()


def failure_of(error):
    code, details = error.code().name, error.details() or ""
    if code == "DEADLINE_EXCEEDED" and "⟦" not in details:
        return Failure("hang", "no answer")
    found = re.search(r"⟦([a-z-]+) (.*)", details, re.S)
    if found:
        return Failure(found.group(1), found.group(2).rstrip("⟧"))
    return Failure("crash" if code == "UNAVAILABLE" else code.lower(), details)


def encode(sql):
    """SqlRequest: string sql = 1."""
    data = sql.encode()
    return b"\x0a" + varint(len(data)) + data


def varint(number):
    out = b""
    while number > 127:
        out += bytes([number & 127 | 128])
        number >>= 7
    return out + bytes([number])


def decode(data):
    """SqlResponse: bytes ipc = 1."""
    out, at = b"", 0
    while at < len(data):
        tag = data[at]
        at += 1
        length = shift = 0
        while True:
            byte = data[at]
            at += 1
            length |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                break
        if tag == 10:
            out += data[at : at + length]
        at += length
    return out
