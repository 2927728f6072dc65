"""A SLURM cluster of one node on this machine, for tests: munged, slurmctld and slurmd, all in one folder.

    with Cluster(folder) as cluster:
        subprocess.run(["sbatch", ...], env=cluster.environment)

Needs Debian's `slurm-wlm` and `munge`, and root. Nothing outside the folder is read or written: own key, own ports, own
configuration. The node claims 64 processors, 1 TB and 8 GPUs, so that jobs which ask for a real node's share start;
nobody checks that they exist. A requeued job waits as long as a credential lives: 20 seconds here, two minutes by
SLURM's default. `python tasks/slurm_cluster.py FOLDER` starts one and ends it on Ctrl-C.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "squeue")
PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])


def missing() -> str:
    """Return why no cluster can be started here; empty if one can."""
    absent = [name for name in PROGRAMS if shutil.which(name, path=PATH) is None]
    if absent:
        return f"no {', '.join(absent)} here (Debian: apt-get install slurm-wlm munge)"
    return "" if os.geteuid() == 0 else "only root can start slurmd"


class Cluster:
    """Starts the daemons on entry and ends them, with every job, on exit."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.environment = {**os.environ, "SLURM_CONF": str(self.folder / "slurm.conf"), "PATH": PATH}
        self._daemons: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Cluster:
        """Write the configuration, start the daemons and wait for the node."""
        for name in ("state", "spool", "munge"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o755)
        key = self.folder / "munge" / "key"
        key.write_bytes(secrets.token_bytes(128))
        key.chmod(0o400)
        self._write()
        try:
            self._start("munged", "--foreground", "--force", f"--key-file={key}", f"--socket={self._socket}",
                        f"--pid-file={self.folder}/munge/pid", f"--log-file={self.folder}/munge/log",
                        f"--seed-file={self.folder}/munge/seed")  # fmt: skip
            self._wait(lambda: self._socket.exists(), "munged's socket")
            self._start("slurmctld", "-D", "-i", "-f", str(self.folder / "slurm.conf"))
            self._start("slurmd", "-D", "-f", str(self.folder / "slurm.conf"), "-N", socket.gethostname())
            self._wait(lambda: "idle" in self.run("sinfo", "-h", "-o", "%T"), "an idle node")
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Cancel what runs and end the daemons."""
        if len(self._daemons) > 1:
            self.run("scancel", "--me", "--full", "--signal=KILL")
            self.run("scancel", "--me")
            deadline = time.monotonic() + 15
            while self.run("squeue", "-h").strip() and time.monotonic() < deadline:
                time.sleep(0.5)
        for daemon in reversed(self._daemons):
            daemon.send_signal(signal.SIGTERM)
        for daemon in reversed(self._daemons):
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        self._daemons.clear()

    def run(self, *command: str) -> str:
        """Return what a SLURM command prints; empty if it fails."""
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False)
        return done.stdout if done.returncode == 0 else ""

    def wait_for_job(self, number: str, states: tuple[str, ...], seconds: float) -> str:
        """Return the job's description once it is in one of the states."""
        deadline = time.monotonic() + seconds
        while True:
            text = self.run("scontrol", "show", "job", number)
            if any(f"JobState={state}" in text for state in states):
                return text
            if time.monotonic() > deadline:
                raise TimeoutError(f"job {number} is not {' or '.join(states)} after {seconds:.0f} s:\n{text}")
            time.sleep(0.5)

    @property
    def _socket(self) -> Path:
        return self.folder / "munge" / "socket"

    def _write(self) -> None:
        host = socket.gethostname()
        with socket.socket() as first, socket.socket() as second:  # two ports that are free now
            first.bind(("", 0))
            second.bind(("", 0))
            ports = first.getsockname()[1], second.getsockname()[1]
        for number in range(8):
            device = self.folder / f"nvidia{number}"  # stands for a GPU: the null device under another name
            if not device.exists():
                os.mknod(device, stat.S_IFCHR | 0o666, os.makedev(1, 3))
        (self.folder / "gres.conf").write_text(f"AutoDetect=off\nName=gpu File={self.folder}/nvidia[0-7]\n")
        (self.folder / "cgroup.conf").write_text("")
        (self.folder / "slurm.conf").write_text(f"""\
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={self._socket},cred_expire=20
CredType=cred/munge
StateSaveLocation={self.folder}/state
SlurmdSpoolDir={self.folder}/spool
SlurmctldPidFile={self.folder}/slurmctld.pid
SlurmdPidFile={self.folder}/slurmd.pid
SlurmctldLogFile={self.folder}/slurmctld.log
SlurmdLogFile={self.folder}/slurmd.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SwitchType=switch/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
GresTypes=gpu
ReturnToService=2
SchedulerParameters=batch_sched_delay=0,sched_interval=1,requeue_delay=1
InactiveLimit=0
KillWait=5
MinJobAge=3600
OverTimeLimit=0
JobRequeue=1
NodeName={host} NodeAddr=127.0.0.1 CPUs=64 RealMemory=1100000 Gres=gpu:8 State=UNKNOWN
PartitionName=gpu Nodes={host} Default=YES MaxTime=INFINITE State=UP
""")

    def _start(self, *command: str) -> None:
        log = (self.folder / f"{command[0]}.out").open("ab")
        self._daemons.append(
            subprocess.Popen(
                command, env=self.environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=self.folder
            )
        )
        log.close()

    def _wait(self, ready: object, what: str, seconds: float = 30) -> None:
        assert callable(ready)
        deadline = time.monotonic() + seconds
        while not ready():
            dead = [daemon.args for daemon in self._daemons if daemon.poll() is not None]
            if dead or time.monotonic() > deadline:
                logs = "\n".join(
                    f"{path}:\n{path.read_text(errors='replace')[-1500:]}"
                    for path in sorted(self.folder.glob("*.log")) + sorted(self.folder.glob("*.out"))
                )
                raise TimeoutError(f"no {what} (ended: {dead}):\n{logs}")
            time.sleep(0.2)


if __name__ == "__main__":
    if missing():
        sys.exit(missing())
    with Cluster(Path(sys.argv[1])) as running:
        print(f"export SLURM_CONF={running.environment['SLURM_CONF']}", flush=True)
        with suppress(KeyboardInterrupt):
            signal.pause()
