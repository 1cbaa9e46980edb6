"A real browser without a head, driven over its debugging port: what a person would click, and what the page then says."
import base64, itertools, json, shutil, subprocess, time, urllib.request
from pathlib import Path

FOUND = next((p for p in map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome")) if p), None)
OPTIONS = ["--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions", "--remote-debugging-port=0", "--remote-allow-origins=*"]


class Browser:
    "One tab; `console` holds what was written there, broken policies too"
    def __init__(self, folder, width=1000, height=900):
        import websocket
        folder = Path(folder)
        self.process = subprocess.Popen([FOUND, *OPTIONS, f"--user-data-dir={folder}", f"--window-size={width},{height}", "about:blank"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 30
        while not (port := folder/"DevToolsActivePort").exists() or not port.read_text().strip():
            assert time.monotonic() < deadline and self.process.poll() is None, "the browser did not start"
            time.sleep(0.05)
        number = port.read_text().split()[0]
        tab = next(t for t in json.loads(urllib.request.urlopen(f"http://127.0.0.1:{number}/json").read()) if t["type"] == "page")
        self.socket, self.numbers, self.console = websocket.create_connection(tab["webSocketDebuggerUrl"], timeout=30), itertools.count(1), []
        for domain in ("Page", "Runtime", "Log", "Network"): self.do(f"{domain}.enable")

    def do(self, method, **params):
        number = next(self.numbers)
        self.socket.send(json.dumps({"id": number, "method": method, "params": params}))
        while True:
            said = json.loads(self.socket.recv())
            if said.get("method") == "Log.entryAdded": self.console.append(said["params"]["entry"]["text"])
            if said.get("method") == "Runtime.exceptionThrown": self.console.append(json.dumps(said["params"]["exceptionDetails"]))
            if said.get("id") == number:
                assert "error" not in said, said
                return said["result"]

    def js(self, code):
        "Evaluate; waits for promises"
        result = self.do("Runtime.evaluate", expression=code, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def go(self, url): self.do("Page.navigate", url=url)

    def wait(self, code, seconds=15):
        "Until an expression is true"
        deadline = time.monotonic() + seconds
        while not (value := self.js(f"try {{ !!({code}) }} catch {{ null }}")): # while a page is loading, nothing is there
            assert time.monotonic() < deadline, f"{code} did not come true; the page says: {self.js('document.body.innerText')[:1500]}; console: {self.console}"
            time.sleep(0.05)
        return value

    def picture(self, path): Path(path).write_bytes(base64.b64decode(self.do("Page.captureScreenshot", format="png", captureBeyondViewport=True)["data"]))

    def close(self):
        self.socket.close(); self.process.terminate(); self.process.wait(10)
