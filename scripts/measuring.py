"""What the benchmarks share: daemons under test, the machine they run on, and the document their tables go to."""

import http.client
import json
import os
import pathlib
import select
import signal
import socket
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
RELEASE = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).resolve() / "release"
PROGRAM = RELEASE / "larderd"
DOCUMENT = ROOT / "docs/benchmarks.md"
POOL = "bench"
QUICK = "--quick" in sys.argv
SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def tell(text):
    print(f"bench: {text}", file=sys.stderr, flush=True)


def as_root(script):
    """Starts the script again as root, if it isn't that already."""
    if os.geteuid() != 0:
        os.execvp("sudo", ["sudo", "--preserve-env=CARGO_TARGET_DIR", script, *sys.argv[1:]])


RESULTS = {}


def note(what, who, value):
    RESULTS.setdefault(what, {}).setdefault(who, []).append(value)


def timed(what, who, action):
    began = time.perf_counter()
    outcome = action()
    note(what, who, time.perf_counter() - began)
    return outcome


def median(what, who):
    values = RESULTS.get(what, {}).get(who)
    return statistics.median(values) if values else None


def rounds(number):
    return max(2, number // 10) if QUICK else number


def in_turns(number, actors, action):
    """Calls `action` for each actor, and changes who is first from round to round."""
    for turn in range(number if actors else 0):
        shift = turn % len(actors)
        for actor in actors[shift:] + actors[:shift]:
            action(actor, turn)


def fill(folder, files):
    """Many small files, as a program's tree has them."""
    line = os.urandom(64)
    for number in range(files):
        part = folder / f"part{number % 100}"
        part.mkdir(exist_ok=True)
        (part / f"file{number}").write_bytes(line * (1 + number % 64))


def fill_with_one(folder, size):
    block = os.urandom(1 << 20)
    with open(folder / "file", "wb") as file:
        for _ in range(size >> 20):
            file.write(block)


def milliseconds(seconds):
    return "–" if seconds is None else f"{seconds * 1000:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"


def bars_table(bars):
    """A table of: what is asked, what was measured, whether it is met (None: not measured)."""
    word = {True: "yes", False: "**no**", None: "–"}
    rows = [f"| {asked} | {measured} | {word[met]} |" for asked, measured, met in bars]
    return ["| asked | measured | met |", "|---|---|---|", *rows]


class Connection(http.client.HTTPConnection):
    """HTTP over a unix socket, kept open between requests."""

    def __init__(self, path):
        super().__init__("localhost", timeout=600)
        self.path = str(path)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)

    def reopen_if_ended(self):
        """A server may end a connection on which nothing was asked for long."""
        if self.sock and select.select([self.sock], [], [], 0)[0]:
            self.close()


class Server:
    """A daemon under test. Both are spoken to by this one client, so that its cost is the same."""

    def __init__(self, name, folder, command, environment, signal_to_end, within=None):
        """`within`: the path of its folder in a mount namespace of its own."""
        self.name, self.folder, self.command, self.signal = name, folder, command, signal_to_end
        self.within = within
        self.environment = {"PATH": SEARCH_PATH, "HOME": str(folder.parent), "LC_ALL": "C.UTF-8", **environment}
        self.process = self.connection = None

    def start(self):
        """Returns the seconds from its start to its first answer."""
        log = open(self.folder.parent / f"{self.name}.log", "ab")
        began = time.perf_counter()
        self.process = subprocess.Popen(
            self.command, env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
        log.close()
        while True:
            self.connection = Connection(self.folder / "unix.socket")
            try:
                self.connection.request("GET", "/1.0")
                if self.connection.getresponse().read() and self.connection.sock:
                    return time.perf_counter() - began
            except OSError:
                pass
            if self.process.poll() is not None or time.perf_counter() - began > 60:
                raise SystemExit(f"{self.name} does not answer: see {self.name}.log")
            time.sleep(0.0005)

    def stop(self):
        if self.process is None:
            return
        self.process.send_signal(self.signal)
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None

    def request(self, method, path, body=None, raw=None):
        data = raw if raw is not None else json.dumps(body).encode() if body is not None else None
        self.connection.reopen_if_ended()
        kind = "application/octet-stream" if raw is not None else "application/json"
        self.connection.request(method, path, data, {"Content-Type": kind})
        return self.connection.getresponse().read()

    def change(self, method, path, body=None, raw=None):
        """One change, waited for when it is an operation. Returns the operation's metadata."""
        reply = json.loads(self.request(method, path, body, raw))
        if reply["type"] == "error":
            raise SystemExit(f"{self.name}: {method} {path}: {reply['error']}")
        if reply["type"] == "async":
            ended = json.loads(self.request("GET", reply["operation"] + "/wait"))["metadata"]
            if ended["status_code"] != 200:
                raise SystemExit(f"{self.name}: {method} {path}: {ended['err']}")
            return ended["metadata"]
        return reply["metadata"]

    def memory(self, what="VmRSS"):
        """MiB it has now, or `VmHWM`: at most had."""
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith(f"{what}:"))

    def volume(self, name=""):
        return f"/1.0/storage-pools/{POOL}/volumes/custom" + (f"/{name}" if name else "")

    def content(self, name, pool=POOL):
        """The files of a volume on a pool that shows them always."""
        folder = f"/proc/{self.process.pid}/root{self.within}" if self.within else self.folder
        return pathlib.Path(folder) / f"storage-pools/{pool}/custom/default_{name}"

    def copy_volume(self, source, name, config=None, pool=POOL):
        """A copy on the pool of a volume there, or on `pool`, without its snapshots."""
        source = {"type": "copy", "name": source, "pool": pool, "volume_only": True}
        self.change("POST", self.volume(), {"name": name, "config": config or {}, "source": source})


def larderd(folder):
    return Server("larder", folder, [PROGRAM], {"LARDER_DIR": str(folder)}, signal.SIGTERM)


def machine():
    model = next((line.split(": ")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "unknown")
    kind = subprocess.run(["findmnt", "-n", "-o", "FSTYPE", "-T", "/var/tmp"], capture_output=True, text=True).stdout.strip()
    memory_size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    load = os.getloadavg()[0]
    return f"{os.cpu_count()} cores of {model}, {memory_size:.0f} GiB, Linux {os.uname().release}, {kind}; load {load:.1f} at the start"


def write(name, text):
    """Puts a text between the marks of this name."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, rest = DOCUMENT.read_text().split(begin)
    DOCUMENT.write_text(f"{before}{begin}\n{text}{rest[rest.index(end):]}")
