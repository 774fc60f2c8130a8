"""Compares the lists of real servers behind one gateway with those of each server by itself. See real-servers."""

import itertools
import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

GATEWAY, CACHE = sys.argv[1], Path(sys.argv[2])
KINDS = {"tools": "name", "prompts": "name", "resources": "uri", "resourceTemplates": "uriTemplate"}
METHODS = {kind: f"{kind}/list" for kind in KINDS} | {"resourceTemplates": "resources/templates/list"}
CLIENT = {"name": "real-servers", "version": "1"}
META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
    "io.modelcontextprotocol/clientInfo": CLIENT,
}
SESSION = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": CLIENT}
ERAS = ("session", "stateless")
# How long a server may take to start, and a request to be answered, in seconds.
LONGEST = 180
STDERR = "FOO_KEY is missing"


def npm(program, *arguments):
    return [str(CACHE / "node_modules/.bin" / program), *arguments]


def pypi(program, *arguments):
    return [str(CACHE / f"venv-{program}/bin" / program), *arguments]


def shell(script, command):
    return ["sh", "-c", script + shlex.join(command)]


def servers(folder):
    """Returns the commands and environments by name."""
    subprocess.run(["git", "init", "-q", f"{folder}/git"], check=True)
    return {
        "everything": (npm("mcp-server-everything", "stdio"), {}),
        "filesystem": (npm("mcp-server-filesystem", folder), {}),
        "thinking": (npm("mcp-server-sequential-thinking"), {}),
        # Lists its tools, and fails to list its resources without a database.
        "postgres": (npm("mcp-server-postgres", "postgresql://127.0.0.1:1/none"), {}),
        # Refuses to be listened to.
        "context7": (npm("context7-mcp"), {}),
        # Asks for roots as soon as it can.
        "chrome": (npm("chrome-devtools-mcp", "--headless", "--isolated", "--no-usage-statistics"), {}),
        "playwright": (npm("playwright-mcp", "--headless"), {}),
        "firecrawl": (npm("firecrawl-mcp"), {"FIRECRAWL_API_KEY": "none"}),
        "tavily": (npm("tavily-mcp"), {"TAVILY_API_KEY": "none"}),
        "exa": (npm("exa-mcp-server"), {"EXA_API_KEY": "none"}),
        "notion": (npm("notion-mcp-server"), {"NOTION_TOKEN": "none"}),
        "figma": (npm("figma-developer-mcp", "--stdio"), {"FIGMA_API_KEY": "none"}),
        "brave": (npm("brave-search-mcp-server", "--transport", "stdio"), {"BRAVE_API_KEY": "none"}),
        "time": (pypi("mcp-server-time"), {}),
        "git": (pypi("mcp-server-git", "--repository", f"{folder}/git"), {}),
        "fetch": (pypi("mcp-server-fetch"), {}),
        "calculator": (pypi("mcp-server-calculator"), {}),
        "duckduckgo": (pypi("duckduckgo-mcp-server"), {}),
        # Starts slowly.
        "memory": (shell("sleep 3; exec ", npm("mcp-server-memory")), {"MEMORY_FILE_PATH": f"{folder}/memory"}),
        "wikipedia": (shell("sleep 12; exec ", pypi("wikipedia-mcp")), {}),
        # Dies at once.
        "dead": (["sh", "-c", f"echo {STDERR} >&2; exit 3"], {}),
    }


class Refused(Exception):
    pass


def in_era(params, era):
    return {**params, "_meta": META} if era == "stateless" else params


def listed(request):
    """Returns the entries of each kind, or the text of the error."""
    kinds = {}
    for kind, method in METHODS.items():
        entries, params = [], {}
        try:
            while True:
                page = request(method, params)
                entries += page[kind]
                if not page.get("nextCursor"):
                    break
                params = {"cursor": page["nextCursor"]}
            kinds[kind] = entries
        except Refused as refused:
            # A method that a server does not have lists nothing.
            kinds[kind] = [] if "-32601" in str(refused) else str(refused)
    return kinds


class Direct:
    """A server on its own standard streams."""

    def __init__(self, command, environment):
        self.process = subprocess.Popen(
            command, env={**os.environ, **environment}, text=True, start_new_session=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )
        self.ids = itertools.count(1)
        # What hangs fails the check.
        self.timer = threading.Timer(LONGEST, self.kill)
        self.timer.start()

    def kill(self):
        self.timer.cancel()
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def send(self, message):
        self.process.stdin.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
        self.process.stdin.flush()

    def request(self, method, params):
        number = next(self.ids)
        self.send({"id": number, "method": method, "params": params})
        for line in self.process.stdout:
            message = json.loads(line)
            if "method" in message and "id" in message:
                self.send({"id": message["id"], "error": {"code": -32601, "message": "no such method"}})
            elif message.get("id") == number and "method" not in message:
                if "error" in message:
                    raise Refused(json.dumps(message["error"]))
                return message["result"]
        raise Refused("the server has ended")


def direct(command, environment, era):
    """Lists a server in an era, or in the one that it has; returns which."""
    server = Direct(command, environment)
    try:
        if era == "stateless":
            server.request("server/discover", {"_meta": META})
        else:
            server.request("initialize", SESSION)
            server.send({"method": "notifications/initialized"})
        return era, listed(lambda method, params: server.request(method, in_era(params, era)))
    except Refused as refused:
        if era == "session":
            raise SystemExit(f"{shlex.join(command)}: {refused}") from refused
    finally:
        server.kill()
    return direct(command, environment, "session")


class Client:
    """A client of the gateway."""

    def __init__(self, url, era):
        self.url, self.era, self.ids, self.headers = url, era, itertools.count(1), {}
        if era == "session":
            self.request("initialize", SESSION)
            self.headers["MCP-Protocol-Version"] = "2025-11-25"
            self.post({"method": "notifications/initialized"})

    def post(self, message):
        headers = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"} | self.headers
        if self.era == "stateless":
            headers |= {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": message["method"]}
        body = json.dumps({"jsonrpc": "2.0", **message}).encode()
        request = urllib.request.Request(self.url, body, headers)
        with urllib.request.urlopen(request, timeout=LONGEST) as response:
            if session := response.headers.get("Mcp-Session-Id"):
                self.headers["Mcp-Session-Id"] = session
            return response.read().decode()

    def request(self, method, params):
        number = next(self.ids)
        for line in self.post({"id": number, "method": method, "params": in_era(params, self.era)}).splitlines():
            data = line.removeprefix("data:").strip()
            message = json.loads(data) if data.startswith("{") else {}
            if message.get("id") == number and "method" not in message:
                if "error" in message:
                    raise Refused(json.dumps(message["error"]))
                return message["result"]
        raise Refused("no answer")


def health(url):
    with urllib.request.urlopen(url.replace("/mcp", "/health")) as response:
        return {one["id"]: one for one in json.load(response)["upstreams"]}


def settled(url):
    """Waits until each server has listed or failed."""
    start = time.monotonic()
    while time.monotonic() - start < LONGEST:
        states = health(url)
        if all(one["state"] != "starting" for one in states.values()):
            break
        time.sleep(0.2)
    print(f"settled after {time.monotonic() - start:.1f} s")
    return states


def differences(name, alone, together):
    """Yields what the gateway lists in another way than the server, and removes from `together` what is of this server."""
    for kind, key in KINDS.items():
        prefix = f"{name}__" if key == "name" else ""
        if isinstance(alone[kind], str):
            continue
        for entry in alone[kind]:
            found = together[kind].pop(prefix + entry[key], None)
            if found is None:
                yield f"{kind} {entry[key]}: not listed"
                continue
            if prefix:
                found = {**found, "name": found["name"].removeprefix(prefix)}
            if found != entry:
                yield f"{kind} {entry[key]}: {json.dumps(found)} is not {json.dumps(entry)}"


def compare(url, alone):
    """Prints what differs; returns how much."""
    wrong = 0
    for era in ERAS:
        together = listed(Client(url, era).request)
        for kind, key in KINDS.items():
            if isinstance(together[kind], str):
                print(f"{era}: {kind}: {together[kind]}")
                wrong, together[kind] = wrong + 1, []
            together[kind] = {entry[key]: entry for entry in together[kind]}
        for name, of_era in alone.items():
            for difference in differences(name, of_era[era][1], together):
                print(f"{era}: {name}: {difference}")
                wrong += 1
        for kind, entries in together.items():
            for name in entries:
                print(f"{era}: {kind} {name}: no server lists it")
                wrong += 1
    return wrong


def check_health(states, alone):
    """Prints a table, and what the report lacks; returns how much."""
    wrong = 0
    for name, state in states.items():
        expected = "error" if name == "dead" else "healthy"
        eras, counts, failed = "", "", []
        if name in alone:
            eras = "both" if alone[name]["stateless"][0] == "stateless" else "session"
            kinds = alone[name]["session"][1]
            failed = [kind for kind, entries in kinds.items() if isinstance(entries, str)]
            counts = " ".join(f"{len(kinds[kind]) if kind not in failed else 'fails':>5}" for kind in KINDS)
        print(f"{name:12} {state['state']:12} {eras:8} {counts:24} {state['error'] or ''}")
        error = state["error"] or ""
        if name == "dead":
            reported = STDERR in error
        elif failed:
            reported = state["listed"] and all(METHODS[kind] in error for kind in failed)
        else:
            reported = state["state"] == expected and state["listed"]
        if not reported:
            print(f"{name}: the report does not say what is expected")
            wrong += 1
    return wrong


def left(folder):
    """Returns the processes that still know the folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if f"REAL_SERVERS={folder}".encode() in (process / "environ").read_bytes():
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            pass
    return found


def main():
    with tempfile.TemporaryDirectory() as folder:
        commands = servers(folder)
        alone = {name: {} for name in commands if name != "dead"}
        with ThreadPoolExecutor(4) as pool:
            for name, era in itertools.product(alone, ERAS):
                alone[name][era] = pool.submit(direct, *commands[name], era)
        alone = {name: {era: listing.result() for era, listing in eras.items()} for name, eras in alone.items()}
        arguments = [GATEWAY, "--listen", "127.0.0.1:0"]
        for name, (command, environment) in commands.items():
            arguments += ["--upstream", f"{name}={shlex.join(command)}"]
            for variable, value in (environment | {"REAL_SERVERS": folder}).items():
                arguments += ["--env", f"{name}={variable}={value}"]
        gateway = subprocess.Popen(arguments, text=True, stdout=subprocess.PIPE)
        try:
            url = gateway.stdout.readline().strip()
            threading.Thread(target=gateway.stdout.read, daemon=True).start()
            states = settled(url)
            wrong = check_health(states, alone) + compare(url, alone)
        finally:
            gateway.terminate()
            status = gateway.wait(60)
        time.sleep(1)
        remaining = left(folder)
        print(f"{len(alone)} servers, {wrong} differences; the gateway ended with {status} and left {len(remaining)} processes")
        sys.exit(wrong > 0 or status != 0 or remaining != [])


main()
