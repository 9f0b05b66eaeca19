"""A one-node Slurm cluster on this machine, for the duration of a test."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from getpass import getuser
from pathlib import Path

PROGRAMS = ("munged", "mariadb-install-db", "mariadbd", "slurmdbd", "sacctmgr", "slurmctld", "slurmd", "sbatch")
SBIN = "/usr/sbin"  # contains the daemons, and is often missing from a user's PATH

SLURM_CONF = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser={user}
SlurmdUser={user}
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={ports[2]}
AccountingStoragePass={folder}/munge.socket
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_interval=1,bf_interval=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
ReturnToService=2
SlurmdParameters=config_overrides
KillWait=5
MailProg=/bin/true
NodeName={host} NodeAddr=127.0.0.1 CPUs=2
PartitionName=low Nodes=ALL PriorityTier=1 GraceTime=20 Default=YES
PartitionName=without_grace Nodes=ALL PriorityTier=1 GraceTime=0
PartitionName=high Nodes=ALL PriorityTier=2 PreemptMode=OFF
"""
SLURMDBD_CONF = """\
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort={ports[2]}
SlurmUser={user}
PidFile={folder}/slurmdbd.pid
LogFile={folder}/slurmdbd.log
StorageType=accounting_storage/mysql
StorageLoc=slurm
StorageUser={user}
"""


def missing() -> list[str]:
    """Return the required programs that are not installed."""
    return [name for name in PROGRAMS if not shutil.which(name, path=f"{os.environ['PATH']}:{SBIN}")]


@contextmanager
def cluster(folder: Path) -> Iterator[dict[str, str]]:
    """Run a cluster with all of its files in this folder.

    Yields:
        The environment variables with which Slurm's commands find it.
    """
    folder.chmod(0o755)
    environment = os.environ | {"SLURM_CONF": f"{folder}/slurm.conf", "PATH": f"{os.environ['PATH']}:{SBIN}"}
    values = {"folder": folder, "host": socket.gethostname().split(".")[0], "user": getuser(), "ports": free_ports(3)}
    for name, content in (("slurm.conf", SLURM_CONF), ("slurmdbd.conf", SLURMDBD_CONF)):
        (folder / name).touch(mode=0o600)
        (folder / name).write_text(content.format(**values))
    for name in ("state", "spool", "database"):
        (folder / name).mkdir()
    (folder / "munge.key").touch(mode=0o600)
    (folder / "munge.key").write_bytes(os.urandom(128))

    def call(*command: str, check: bool = True) -> str:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0 or not check, (command, done.stdout, done.stderr)
        return done.stdout

    database = ("--no-defaults", f"--user={getuser()}", f"--datadir={folder}/database")
    with ExitStack() as daemons:

        def start(*command: str, **more: str) -> None:
            log = daemons.enter_context((folder / f"{command[0]}.out").open("wb"))
            process = subprocess.Popen(command, env=environment | more, stdout=log, stderr=log)
            daemons.callback(end, process)

        munge = {name: f"--{name}-file={folder}/munge.{name}" for name in ("key", "log", "pid", "seed")}
        start("munged", "--foreground", "--force", f"--socket={folder}/munge.socket", *munge.values())
        call("mariadb-install-db", *database, "--skip-test-db", "--auth-root-authentication-method=socket")
        files = (f"--socket={folder}/mysql.socket", f"--pid-file={folder}/mysql.pid")
        start("mariadbd", *database, *files, "--skip-networking")
        wait_until(lambda: (folder / "mysql.socket").exists() and (folder / "munge.socket").exists(), folder)
        start("slurmdbd", "-D", MYSQL_UNIX_PORT=f"{folder}/mysql.socket")
        wait_until(lambda: accepts(values["ports"][2]), folder)
        call("sacctmgr", "--immediate", "add", "cluster", "test")
        start("slurmctld", "-D", "-c")
        daemons.callback(end_controller, environment)
        start("slurmd", "-D")
        wait_until(lambda: "idle" in call("sinfo", "--noheader", "--format=%T", check=False), folder)
        try:
            yield environment
        finally:
            call("scancel", "--signal=KILL", f"--user={getuser()}")
            call("scancel", f"--user={getuser()}")
            wait_until(lambda: not call("squeue", "--noheader"), folder)


def kill_controller(environment: dict[str, str]) -> None:
    os.kill(_pid_of_controller(environment), signal.SIGKILL)


def restart_controller(environment: dict[str, str]) -> None:
    """Start the controller again after a crash; it recovers its state."""
    subprocess.run(["slurmctld"], env=environment, check=True, timeout=60)


def end_controller(environment: dict[str, str]) -> None:
    with suppress(ProcessLookupError):
        os.kill(_pid_of_controller(environment), signal.SIGTERM)


def _pid_of_controller(environment: dict[str, str]) -> int:
    return int(Path(environment["SLURM_CONF"]).with_name("slurmctld.pid").read_text())


def end(process: subprocess.Popen) -> None:
    process.terminate()
    try:
        process.wait(timeout=20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def free_ports(num: int) -> list[int]:
    with ExitStack() as sockets:
        bound = [sockets.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(num)]
        return [one.getsockname()[1] for one in bound]


def accepts(port: int) -> bool:
    """Whether a server listens at this port."""
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def wait_until(condition: Callable[[], bool], folder: Path, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            logs = "".join(
                f"--- {log.name}\n{log.read_text(errors='replace')[-2000:]}\n" for log in sorted(folder.glob("*.out"))
            )
            raise TimeoutError(f"Slurm did not come up:\n{logs}")
        time.sleep(0.1)
