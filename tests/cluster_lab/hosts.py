"""Hosts on one machine: each has its own network, processes, mounts, name, /tmp and SSH server.

They hang on a bridge in the network namespace of one more host, the laptop, so that nothing of it
is seen from outside. /srv/shared is one folder for all of them, as a file server's would be; each
home is its own. A host's processes see no other's, so that its `ray stop` ends only its own Ray.
"""

import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

SHARED = Path("/srv/shared")
_OWN_TO_EACH = Path("/tmp")  # noqa: S108
_NETWORK = "10.77.0"
_LAPTOP = "laptop"
_BRIDGE = "bridge"
_TOOLS = ("ip", "unshare", "nsenter", "rsync", "ssh", "ssh-keygen", "/usr/sbin/sshd")

_BOOT = """
set -e
mount --make-rprivate /
mount -t tmpfs -o size=3g tmpfs /tmp
mount -t tmpfs -o size=400m tmpfs /dev/shm
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /srv
mkdir -p /run/sshd {shared}
mount --bind {folder}/shared {shared}
mount --bind {folder}/{name}/passwd /etc/passwd
hostname {name}
{server}
touch {folder}/{name}/booted
while :; do wait; sleep 1; done  # the first process takes in those that lose their parent
"""

_SSHD = """
ListenAddress 0.0.0.0
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/key.pub
StrictModes no
UsePAM no
UseDNS no
PasswordAuthentication no
PermitRootLogin prohibit-password
PidFile none
"""


def what_is_lacking() -> str | None:
    """Why there can be no hosts on this machine; None where there can."""
    if os.geteuid() != 0:
        return "this needs root"
    missing = [tool for tool in _TOOLS if shutil.which(tool) is None]
    if missing:
        return f"this needs {', '.join(missing)}"
    if _OWN_TO_EACH in (*Path(sys.executable).parents, *Path(__file__).parents):
        return f"hosts see nothing of what lies below {_OWN_TO_EACH}, as this does"
    name = f"flopwise-{os.getpid()}-probe"
    within = "mount --make-rprivate / && mount -t tmpfs tmpfs /srv && hostname probe"
    probe = f"""
        ip netns add {name} && trap 'ip netns del {name}' EXIT
        ip -n {name} link add {_BRIDGE} type bridge && ip -n {name} link add wire type veth &&
        ip netns exec {name} unshare --pid --fork --mount --mount-proc --uts sh -c '{within}'
    """
    done = subprocess.run(["bash", "-c", probe], capture_output=True, text=True, check=False)
    if done.returncode:
        return f"hosts can't be made here: {done.stderr.strip().splitlines()[-1:]}"
    return None


class Host:
    """One host. Its processes live until it is switched off."""

    def __init__(self, lab: "Lab", name: str, number: int, *, server: bool) -> None:
        self.name = name
        self.address = f"{_NETWORK}.{number}"
        self.home = lab.folder / name / "home"
        self._namespace = f"flopwise-{os.getpid()}-{name}"
        self._lab = lab
        self.home.mkdir(parents=True)
        passwd = f"root:x:0:0:root:{self.home}:/bin/bash\nsshd:x:104:65534::/run/sshd:/bin/false\n"
        (lab.folder / name / "passwd").write_text(passwd)
        _ip("netns", "add", self._namespace)
        _ip("-n", self._namespace, "link", "set", "lo", "up")
        sshd = f"/usr/sbin/sshd -D -e -f {lab.folder}/sshd_config 2>{lab.folder}/{name}/sshd.log &"
        boot = _BOOT.format(
            shared=SHARED, folder=lab.folder, name=name, server=sshd if server else ""
        )
        with (lab.folder / name / "boot.log").open("wb") as log:
            self._process = subprocess.Popen(
                [
                    *("ip", "netns", "exec", self._namespace),
                    *("unshare", "--mount", "--uts", "--pid", "--fork", "--kill-child"),
                    *("--mount-proc", "bash", "-c", boot),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    @property
    def is_on(self) -> bool:
        return self._process.poll() is None

    def plug_in(self, bridge: "Host") -> None:
        """Put a cable between this host and the bridge."""
        wire = f"to-{self.name}"
        _ip(
            *("-n", bridge._namespace, "link", "add", wire, "type", "veth"),
            *("peer", "name", "eth0", "netns", self._namespace),
        )
        _ip("-n", bridge._namespace, "link", "set", wire, "master", _BRIDGE, "up")
        _ip("-n", self._namespace, "addr", "add", f"{self.address}/24", "dev", "eth0")
        _ip("-n", self._namespace, "link", "set", "eth0", "up")
        # Ray finds a host's own address by asking which way leads out.
        _ip("-n", self._namespace, "route", "add", "default", "via", f"{_NETWORK}.1")

    def make_bridge(self) -> None:
        _ip("-n", self._namespace, "link", "add", _BRIDGE, "type", "bridge")
        _ip("-n", self._namespace, "addr", "add", f"{self.address}/24", "dev", _BRIDGE)
        _ip("-n", self._namespace, "link", "set", _BRIDGE, "up")

    def run(
        self,
        *words: object,
        timeout: float = 300,
        check: bool = True,
        env: dict[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command there and return what it printed."""
        done = subprocess.run(
            self.command(*words, env=env),
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        if check and done.returncode:
            message = f"{done.stdout[-6000:]}\n{done.stderr[-6000:]}"
            raise AssertionError(f"{shlex.join(map(str, words))}: {done.returncode}\n{message}")
        return done

    def command(self, *words: object, env: dict[str, str] | None = None) -> list[str]:
        """The command that runs another one on this host, with nothing of ours around it."""
        around = {
            "HOME": str(self.home),
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "TERM": "dumb",
            "LANG": "C.UTF-8",
            **(env or {}),
        }
        return [
            *("nsenter", "--target", str(self._first_process()), "--all", "env", "-i"),
            *(f"{name}={value}" for name, value in around.items()),
            *map(str, words),
        ]

    def process_names(self) -> list[str]:
        """Names of what runs there."""
        return self.run("ps", "-eo", "comm=").stdout.split()

    def switch_off(self) -> None:
        """As when the power goes: nothing says good-bye."""
        if not self.is_on:
            return
        if self.name != _LAPTOP:
            self._lab.laptop.run("ip", "link", "del", f"to-{self.name}", check=False)
        os.kill(self._first_process(), signal.SIGKILL)
        self._process.wait(timeout=30)

    def throw_away(self) -> None:
        self.switch_off()
        _ip("netns", "del", self._namespace)

    def wait_until_up(self) -> None:
        booted = self.home.parent / "booted"
        wait_for(booted.exists, 30, f"{self.name} to boot", unless=lambda: not self.is_on)

    def _first_process(self) -> int:
        """Its first process, by the number that it has outside."""
        # ip replaces itself by unshare, whose one child is the first process within.
        pid = self._process.pid
        return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])


class Lab:
    """A laptop and some hosts that it reaches by SSH."""

    def __init__(self, names: Sequence[str]) -> None:
        # Not below /tmp, of which each host has its own.
        self.folder = Path(tempfile.mkdtemp(prefix="flopwise-lab-", dir="/var/tmp"))
        self.shared = self.folder / "shared"
        self.shared.mkdir()
        for key in ("host_key", "key"):
            command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.folder / key]
            subprocess.run(command, check=True)
        (self.folder / "sshd_config").write_text(_SSHD.format(folder=self.folder))
        self.laptop = Host(self, _LAPTOP, 1, server=False)
        self.hosts = [Host(self, name, 10 + index, server=True) for index, name in enumerate(names)]
        self.laptop.make_bridge()
        for host in self.hosts:
            host.plug_in(self.laptop)
        for host in (self.laptop, *self.hosts):
            host.wait_until_up()

    @property
    def key(self) -> Path:
        """The private half of the key that opens every host."""
        return self.folder / "key"

    def tear_down(self) -> None:
        """Leave nothing behind."""
        for host in (*self.hosts, self.laptop):
            host.throw_away()
        shutil.rmtree(self.folder)


def wait_for(
    happens: Callable[[], bool],
    seconds: float,
    what: str,
    *,
    unless: Callable[[], bool] = lambda: False,
    every: float = 0.5,
) -> None:
    """Wait for something, asking every so many seconds. Raises AssertionError."""
    end = time.monotonic() + seconds
    while not happens():
        assert time.monotonic() < end, f"waited {seconds:.0f} s for {what}"
        assert not unless(), f"there will be no {what}"
        time.sleep(every)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)
