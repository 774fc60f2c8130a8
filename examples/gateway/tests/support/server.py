"""A server of the session era on standard input and output.

    server.py [--sleep SECONDS] [--executed FILE] [--tools COUNT]

Tools: `echo` answers its `text` and its process id; with an `n` it first appends that to FILE. `wait` makes the
file `started` and answers once the file `path` exists. More tools are named `tool_0` and so on.
"""

import argparse
import json
import os
import sys
import threading
import time

parser = argparse.ArgumentParser()
parser.add_argument("--sleep", type=float, default=0)
parser.add_argument("--executed")
parser.add_argument("--tools", type=int, default=0)
options = parser.parse_args()

time.sleep(options.sleep)

NAMES = ["echo", "wait"] + [f"tool_{number}" for number in range(options.tools)]
RESULTS = {
    "initialize": {
        "protocolVersion": "2025-11-25",
        "capabilities": {"tools": {}},
        "serverInfo": {"name": "test", "version": "1"},
    },
    "ping": {},
    "tools/list": {"tools": [{"name": name, "inputSchema": {"type": "object"}} for name in NAMES]},
}
writing = threading.Lock()


def answer(identifier, **content):
    with writing:
        print(json.dumps({"jsonrpc": "2.0", "id": identifier, **content}), flush=True)


def call(identifier, name, arguments):
    if name == "wait":
        open(arguments["started"], "w", encoding="utf-8").close()
        while not os.path.exists(arguments["path"]):
            time.sleep(0.02)
    if "n" in arguments and options.executed:
        # One write: lines of several processes do not mix.
        with open(options.executed, "a", encoding="utf-8") as file:
            file.write(f"{arguments['n']}\n")
    text = f"{arguments.get('text')} {os.getpid()}"
    answer(identifier, result={"content": [{"type": "text", "text": text}]})


for line in sys.stdin:
    message = json.loads(line)
    if "id" not in message or "method" not in message:
        continue
    identifier, method = message["id"], message["method"]
    if method == "tools/call":
        params = message["params"]
        arguments = (identifier, params["name"], params.get("arguments", {}))
        threading.Thread(target=call, args=arguments, daemon=True).start()
    elif method in RESULTS:
        answer(identifier, result=RESULTS[method])
    else:
        answer(identifier, error={"code": -32601, "message": "no such method"})
