"""A server of the session era on standard input and output that starts as slowly, or as badly, as its arguments say.

    server.py [--sleep SECONDS] [--die STATUS] [--fail METHOD] [--hang METHOD] [--count FILE] [--announce]

Writes a line to FILE at each start. Announces a change of its tools within each call. Dies with a message on standard error where it is told to.
"""

import argparse
import json
import sys
import time

parser = argparse.ArgumentParser()
parser.add_argument("--sleep", type=float, default=0)
parser.add_argument("--die", type=int)
parser.add_argument("--fail", action="append", default=[])
parser.add_argument("--hang", action="append", default=[])
parser.add_argument("--count")
parser.add_argument("--announce", action="store_true")
options = parser.parse_args()

if options.count:
    with open(options.count, "a", encoding="utf-8") as file:
        file.write("started\n")
time.sleep(options.sleep)
if options.die is not None:
    print("API key missing, set FOO_KEY", file=sys.stderr)
    sys.exit(options.die)

RESULTS = {
    "initialize": {
        "protocolVersion": "2025-11-25",
        "capabilities": {"tools": {"listChanged": options.announce}, "resources": {}, "prompts": {}},
        "serverInfo": {"name": "slow", "version": "1"},
    },
    "ping": {},
    "tools/list": {"tools": [{"name": "echo", "inputSchema": {"type": "object"}}]},
    "prompts/list": {"prompts": [{"name": "hello"}]},
    "resources/list": {"resources": [{"name": "page", "uri": "doc://page"}]},
    "resources/templates/list": {"resourceTemplates": []},
    "tools/call": {"content": [{"type": "text", "text": "echoed"}]},
}

for line in sys.stdin:
    message = json.loads(line)
    if "id" not in message or message["method"] in options.hang:
        continue
    answer = {"jsonrpc": "2.0", "id": message["id"]}
    if options.announce and message["method"] == "tools/call":
        print('{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}', flush=True)
    if message["method"] in options.fail:
        answer["error"] = {"code": -32603, "message": "the database is not there"}
    elif message["method"] in RESULTS:
        answer["result"] = RESULTS[message["method"]]
    else:
        answer["error"] = {"code": -32601, "message": "no such method"}
    print(json.dumps(answer), flush=True)
