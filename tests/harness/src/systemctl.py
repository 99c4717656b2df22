#!/usr/bin/python3 -IS
"""A stand-in for systemctl: units are JSON files beside it, their processes are children of nobody."""
import json, os, select, shlex, shutil, signal, socket, subprocess, sys

ROOT = os.path.dirname(os.path.abspath(__file__))


def path(*names):
    return os.path.join(ROOT, *names)


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def main_pid(unit):
    try:
        with open(path(unit + ".pid")) as file:
            pid = int(file.read())
    except (OSError, ValueError):
        return 0
    return pid if alive(pid) else 0


def ready(unit, pid):
    with open(path(unit + ".ready"), "w") as file:
        file.write(str(pid))


def state(unit):
    pid = main_pid(unit)
    try:
        with open(path(unit + ".ready")) as file:
            return "active" if pid and file.read() == str(pid) else "activating" if pid else "inactive"
    except OSError:
        return "activating" if pid else "inactive"


def drop_in(unit, name="50-theoris.conf"):
    try:
        with open(path("units", unit + ".d", name)) as file:
            return file.read()
    except OSError:
        return ""


def described(unit):
    with open(path(unit + ".json")) as file:
        return json.load(file)


def command(unit):
    """What its ExecStart is, by a drop-in or by itself."""
    lines = drop_in(unit, "60-theoris-handed.conf").splitlines()
    last = [line for line in lines if line.startswith("ExecStart=/")]
    return shlex.split(last[-1].partition("=")[2]) if last else described(unit)["command"]


def start(unit):
    if main_pid(unit):
        return 0
    unit_file = described(unit)
    notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    at = path(unit + ".notify")
    if os.path.exists(at):
        os.unlink(at)
    notify.bind(at)
    os.chmod(at, 0o666)
    environment = dict(os.environ, **unit_file.get("environment", {}))
    if unit_file["notifies"]:
        environment["NOTIFY_SOCKET"] = at
    with open(path(unit + ".log"), "ab") as log:
        child = subprocess.Popen(command(unit), env=environment, stdin=subprocess.DEVNULL,
                                 stdout=log, stderr=log, start_new_session=True)
    with open(path(unit + ".pid"), "w") as file:
        file.write(str(child.pid))
    if not unit_file["notifies"]:
        ready(unit, child.pid)
        return 0
    notify.settimeout(0.02)
    while child.poll() is None:
        try:
            if b"READY=1" in notify.recv(4096).split(b"\n"):
                ready(unit, child.pid)
                return 0
        except socket.timeout:
            pass
    sys.stderr.write(f"Job for {unit} failed.\n")
    return 1


def stop(unit, wait):
    pid = main_pid(unit)
    if not pid:
        return 0
    kills = "KillSignal=SIGKILL" in drop_in(unit)
    os.kill(pid, signal.SIGKILL if kills else signal.SIGTERM)
    os.kill(pid, signal.SIGCONT)
    directory = described(unit).get("runtime_directory")
    if "RuntimeDirectoryPreserve=yes" in drop_in(unit):
        directory = None
    if wait or directory:
        try:
            ended = select.poll()
            ended.register(os.pidfd_open(pid), select.POLLIN)
            ended.poll()
        except ProcessLookupError:
            pass
    if directory:
        shutil.rmtree(directory)
    return 0


def main():
    options = [word for word in sys.argv[1:] if word.startswith("--")]
    verb, *words = [word for word in sys.argv[1:] if not word.startswith("--")]
    unit = words[-1] if words else ""
    enabled = path(unit + ".enabled")
    if verb == "show":
        value = {
            "MainPID": main_pid(unit),
            "ActiveState": state(unit),
            "LoadState": "loaded" if os.path.exists(path(unit + ".json")) else "not-found",
            "ExecStart": "",
        }[words[0]]
        if words[0] == "ExecStart":
            words = described(unit)["command"]
            value = "{ path=%s ; argv[]=%s ; ignore_errors=no ; pid=0 }" % (words[0], " ".join(words))
        print(value)
    elif verb == "start":
        return start(unit)
    elif verb == "stop":
        return stop(unit, "--no-block" not in options)
    elif verb == "enable":
        open(enabled, "w").close()
    elif verb == "disable":
        if os.path.exists(enabled):
            os.unlink(enabled)
    elif verb == "is-enabled":
        print("enabled" if os.path.exists(enabled) else "disabled")
        return 0 if os.path.exists(enabled) else 1
    elif verb not in ("daemon-reload", "reset-failed"):
        sys.stderr.write(f"no {verb}\n")
        return 64
    return 0


sys.exit(main())
