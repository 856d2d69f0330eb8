"""Starts the brokers that tests speak to: FerryMQ's binary, or a private node of an installed RabbitMQ.

Invariant: a server listens on 127.0.0.1 only, keeps its data in its own temporary directory, and is ended
through the process handle that started it.
"""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

STARTUP_SECONDS = 60
STOP_SECONDS = 30


def free_port():
    """A port of 127.0.0.1 that nothing listened on a moment ago, for servers that can't pick one."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def end_cleanly_when_terminated():
    """Turns SIGTERM into SystemExit, so that the `finally` blocks that stop servers run."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


class Output:
    """Collects a process's output line by line and lets a test wait for a line."""

    def __init__(self, stream):
        self.lines, self.ended, self.changed = [], False, threading.Condition()
        self.thread = threading.Thread(target=self._run, args=(stream,), daemon=True)
        self.thread.start()

    def _run(self, stream):
        for line in stream:
            with self.changed:
                self.lines.append(line.rstrip("\n"))
                self.changed.notify_all()
        with self.changed:
            self.ended = True
            self.changed.notify_all()

    def wait_for(self, text, seconds=STARTUP_SECONDS, start=0):
        """The first line from index `start` on that contains `text`; an error when the process ends first."""
        deadline = time.monotonic() + seconds
        with self.changed:
            while True:
                for line in self.lines[start:]:
                    if text in line:
                        return line
                left = deadline - time.monotonic()
                if self.ended or left <= 0:
                    raise RuntimeError(f"no line with {text!r}; the output was:\n" + "\n".join(self.lines[-40:]))
                self.changed.wait(left)


class Server:
    """What both brokers offer a test."""

    host, port, kind = "127.0.0.1", 0, ""
    process = None

    @property
    def address(self):
        return (self.host, self.port)

    @property
    def url(self):
        return f"amqp://guest:guest@{self.host}:{self.port}/%2F"

    def alive(self):
        return self.process is None or self.process.poll() is None


class External(Server):
    """A broker somebody else runs, given as AMQP_URL."""

    kind = "external"

    def __init__(self, url):
        host_port = url.split("://", 1)[-1].rsplit("@", 1)[-1].split("/", 1)[0]
        self.host, port = host_port.rsplit(":", 1)
        self.port = int(port)

    def stop(self):
        pass


class Ferrymq(Server):
    """The broker under test. `config` is the text of its config file, `data_dir` survives a restart."""

    kind = "ferrymq"

    def __init__(self, binary, config="", data_dir=None, environment=None):
        self.prepare(binary, config, data_dir, environment)
        self.start()

    def prepare(self, binary, config="", data_dir=None, environment=None):
        """Everything but the start, for whoever must be there when it fails or is cut short."""
        self.binary, self.environment = str(binary), environment
        self.own = data_dir is None
        self.directory = Path(data_dir or tempfile.mkdtemp(prefix="ferrymq-test-"))
        self.config_path = self.directory / "config.toml"
        self.config_path.write_text(config)

    def start(self):
        self.spawn()
        self.wait_until_ready()

    def spawn(self):
        """Starts the process and does not wait for it. `environment` is added to this program's own."""
        command = [self.binary, "serve", "--config", str(self.config_path),
                   "--data-dir", str(self.directory / "data"), "--listen", "127.0.0.1:0"]  # fmt: skip
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            errors="replace", cwd=self.directory, env={**os.environ, **(self.environment or {})},
        )  # fmt: skip
        self.output = Output(self.process.stdout)

    def wait_until_ready(self):
        try:
            line = self.output.wait_for("listening on 127.0.0.1:")
            self.port = int(re.search(r"listening on 127\.0\.0\.1:(\d+)", line).group(1))
            self.output.wait_for("Server startup complete")
        except Exception:
            self.kill()
            raise

    def terminate(self):
        """SIGTERM without waiting."""
        self.process.send_signal(signal.SIGTERM)

    def stop(self):
        """SIGTERM; the exit code. Removes the data when this server made its directory."""
        code = self.stop_process()
        self.remove()
        return code

    def remove(self):
        """Removes the data of an ended server, when this server made its directory."""
        if self.own:
            shutil.rmtree(self.directory, ignore_errors=True)

    def stop_process(self):
        if self.alive():
            self.terminate()
        try:
            return self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    def kill(self):
        """SIGKILL: nothing gets flushed."""
        self.process.kill()
        self.process.wait()


def rabbitmq_script():
    """Debian's RabbitMQ start script that runs in the foreground as any user, or None."""
    candidates = [os.environ.get("RABBITMQ_SERVER"), "/usr/lib/rabbitmq/bin/rabbitmq-server"]
    return next((c for c in candidates if c and os.access(c, os.X_OK)), None)


PLUGINS = ("rabbitmq_consistent_hash_exchange", "rabbitmq_random_exchange", "rabbitmq_sharding",
           "rabbitmq_recent_history_exchange")  # fmt: skip


def installed_plugins():
    """Those of RabbitMQ's plugins that have exchange types which FerryMQ has by itself, as far as they are there."""
    folder = Path(rabbitmq_script()).resolve().parents[1] / "plugins"
    return [plugin for plugin in PLUGINS if list(folder.glob(f"{plugin}-*"))]


class Rabbitmq(Server):
    """A private RabbitMQ node with its own epmd, cookie, data and logs."""

    kind = "rabbitmq"

    def __init__(self):
        self.prepare()
        self.start()

    def prepare(self, directory=None):
        """Everything but the start, for whoever must be there when it fails or is cut short."""
        self.script = rabbitmq_script()
        if not self.script:
            raise RuntimeError("no rabbitmq-server on this machine")
        self.directory = home = Path(directory or tempfile.mkdtemp(prefix="rabbitmq-test-"))
        self.port = free_port()
        self.epmd_port = free_port()
        self.environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("RABBITMQ_")},
            "HOME": str(home), "ERL_EPMD_ADDRESS": "127.0.0.1", "ERL_EPMD_PORT": str(self.epmd_port),
            "RABBITMQ_NODENAME": f"test{self.port}@localhost", "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port), "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_MNESIA_BASE": str(home / "mnesia"), "RABBITMQ_LOG_BASE": str(home / "log"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(home / "plugins"), "RABBITMQ_PID_FILE": str(home / "pid"),
            "RABBITMQ_CONFIG_FILE": str(home / "rabbitmq.conf"),
            "RABBITMQ_CONF_ENV_FILE": str(home / "rabbitmq-env.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(home / "advanced.config"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
        }  # fmt: skip
        (home / "plugins").write_text(f"[{','.join(installed_plugins())}].\n")
        (home / "rabbitmq.conf").write_text("disk_free_limit.absolute = 50MB\n")
        (home / "rabbitmq-env.conf").write_text("")
        self.log = open(home / "console", "w")
        self.quiet = {"stdin": subprocess.DEVNULL, "stdout": self.log, "stderr": subprocess.STDOUT}
        self.epmd = subprocess.Popen(["epmd", "-port", str(self.epmd_port), "-address", "127.0.0.1"],
                                     env=self.environment, **self.quiet)  # fmt: skip

    def start(self):
        try:
            self.spawn()
            self.wait_until_ready()
        except Exception:
            self.stop()
            raise

    def spawn(self):
        """Starts the node and does not wait for it."""
        self.process = subprocess.Popen([self.script], env=self.environment, cwd=self.directory,
                                        start_new_session=True, **self.quiet)  # fmt: skip

    def wait_until_ready(self):
        from wire import Client

        deadline = time.monotonic() + STARTUP_SECONDS
        while True:
            try:
                with Client(self.address, timeout=5).connect():
                    return
            except Exception:
                if not self.alive() or time.monotonic() > deadline:
                    raise RuntimeError("RabbitMQ did not start:\n" + (self.directory / "console").read_text()[-4000:])
                time.sleep(0.2)

    def kill(self):
        """SIGKILL to the node's own process group, which its start script leads."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop_process(self):
        """SIGTERM to the node's own process group; the exit code."""
        if self.alive():
            os.killpg(self.process.pid, signal.SIGTERM)
        try:
            return self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    def stop(self):
        try:
            if self.process is not None and self.alive():
                self.stop_process()
        except subprocess.TimeoutExpired:
            pass
        finally:
            self.epmd.terminate()
            self.epmd.wait()
            self.log.close()
            shutil.rmtree(self.directory, ignore_errors=True)


def start_from_environment(config=""):
    """AMQP_URL: an external broker. FERRYMQ_BIN: that binary. TEST_BROKER=rabbitmq: a private RabbitMQ."""
    if os.environ.get("AMQP_URL"):
        return External(os.environ["AMQP_URL"])
    if os.environ.get("TEST_BROKER") == "rabbitmq":
        return Rabbitmq()
    if os.environ.get("FERRYMQ_BIN"):
        return Ferrymq(os.environ["FERRYMQ_BIN"], config)
    raise RuntimeError("set FERRYMQ_BIN (a ferrymq binary), AMQP_URL, or TEST_BROKER=rabbitmq")
