"""An ssh for tests: runs the session of "gpu-box" without a connection, and knows no other
computer. FAKE_SSH makes it misbehave: missing (no ugmcl there), refused (the key), lost (the
connection, at the first file)."""

import json
import os
import sys

HELLO = {
    "event": "hello", "version": "0.1.0", "torch": "2.8.0", "methods": [],
    "devices": [{"name": "cuda:0", "text": "NVIDIA A"}, {"name": "cuda:1", "text": "NVIDIA B"},
                {"name": "cpu", "text": "CPU (8 threads)"}],
}  # fmt: skip
ABOUT = {
    "home": "/home/me/.ugmcl", "python": "3.12.1", "system": "Linux", "cpus": 8, "runs": [],
    "memory_bytes": 64 << 30, "free_bytes": 500_000_000_000, "kept_bytes": 33_000_000,
    "gpus": [{"name": "NVIDIA A", "memory_mib": 40960, "used_mib": 0},
             {"name": "NVIDIA B", "memory_mib": 81920, "used_mib": 0}],
}  # fmt: skip


def say(event, **content):
    print(json.dumps({"event": event, **content}), flush=True)


def fail(text, code):
    print(text, file=sys.stderr)
    sys.exit(code)


destination, command = sys.argv[sys.argv.index("--") + 1 :]
fault = os.environ.get("FAKE_SSH")
if destination != "gpu-box":
    fail(f"ssh: Could not resolve hostname {destination}: Name or service not known", 255)
if fault == "refused":
    fail("me@gpu-box: Permission denied (publickey).", 255)
if command == "sh -s":
    sys.stdin.read()
    print("python /usr/bin/python3 3.12.1\nfree 500000000")
    sys.exit()
if fault == "missing":
    fail("sh: ugmcl: not found", 127)
say("session", version="0.1.0", protocol=2, pid=1, folder="/there/1", runs="/there/runs")
for line in sys.stdin:
    message = json.loads(line)
    tag = message["tag"]
    if message["command"] == "model" and fault == "lost":
        fail("client_loop: send disconnect: Broken pipe", 255)
    elif message["command"] == "about":
        say("about", tag=tag, **ABOUT)
    elif message["command"] == "ask":
        say("worker", tag=tag, line=json.dumps(HELLO))
    elif message["command"] == "clean":
        say("cleaned", tag=tag, bytes=33_000_000)
    elif message["command"] == "forget":
        say("forgotten", tag=tag)
