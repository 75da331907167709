"""Stands in for systemd as far as a service's notify socket goes (sd_notify(3), "FDSTORE=1"): keeps the descriptors
that services send, and starts a service with them as systemd would.

usage: notify-socket.py SOCKET

Commands on standard input, one a line, JSON: {"start": [words], "env": {}, "log": path} starts a service with what the store
holds; answers {"pid": n}. {"stored": true} answers {"names": [...], "states": [...]}.
"""
import array
import json
import os
import socket
import sys
import threading

path = sys.argv[1]
store = {}
states = []
lock = threading.Lock()
inbox = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
inbox.bind(path)


def receive():
    while True:
        data, control, _, _ = inbox.recvmsg(4096, socket.CMSG_SPACE(4 * 16))
        fds = array.array("i")
        for level, kind, content in control:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds.frombytes(content[: len(content) - len(content) % 4])
        words = dict(line.split("=", 1) for line in data.decode().split("\n") if "=" in line)
        with lock:
            states.append(words)
            name = words.get("FDNAME", "")
            if words.get("FDSTORE") == "1":
                store.setdefault(name, []).extend(fds)
            elif words.get("FDSTOREREMOVE") == "1":
                for fd in store.pop(name, []):
                    os.close(fd)


threading.Thread(target=receive, daemon=True).start()


def start(words, env, log):
    with lock:
        held = [(name, fd) for name, fds in store.items() for fd in fds]
    pid = os.fork()
    if pid == 0:
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(output, 1)
        os.dup2(output, 2)
        # Out of the way first, then to 3, 4, ... as sd_listen_fds(3) has it.
        high = [os.dup2(fd, 500 + i) for i, (_, fd) in enumerate(held)]
        os.closerange(3, 500)
        for i, fd in enumerate(high):
            os.dup2(fd, 3 + i)
        os.closerange(3 + len(held), 1000)
        env = {**os.environ, **env, "NOTIFY_SOCKET": path, "SYSTEMD_EXEC_PID": str(os.getpid())}
        if held:
            names = ":".join(name for name, _ in held)
            env.update(LISTEN_FDS=str(len(held)), LISTEN_FDNAMES=names, LISTEN_PID=str(os.getpid()))
        os.execvpe(words[0], words, env)
    return pid


for line in sys.stdin:
    command = json.loads(line)
    if "start" in command:
        answer = {"pid": start(command["start"], command.get("env", {}), command["log"])}
    elif "forget" in command:
        with lock:
            for fd in [fd for fds in store.values() for fd in fds]:
                os.close(fd)
            store.clear()
        answer = {}
    elif "wait" in command:
        answer = {"status": os.waitpid(command["wait"], 0)[1]}
    else:
        with lock:
            answer = {"names": sorted(store), "states": states}
    print(json.dumps(answer), flush=True)
