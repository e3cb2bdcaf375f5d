"""Debian's Chromium through ChromeDriver, spoken to by the standard library: the WebDriver protocol is JSON over HTTP."""
import base64
import http.client
import json
import os
import shutil
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "stack"))

from servers import HOST, Late, Process, free_port, wait_until  # noqa: E402

# Without the background switches Chromium asks hosts of its maker, which no test of ours should.
SWITCHES = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
            "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--hide-scrollbars"]


class Missing(SystemExit):
    """Chromium is not installed."""


class Browser(Process):
    """One ChromeDriver with one session. `see` finds out what a person would; nothing is written into the page."""

    def __init__(self):
        super().__init__("chromedriver")
        for program in ("chromium", "chromedriver"):
            if not shutil.which(program):
                raise Missing("page: no `%s` here; install Debian's `chromium` and `chromium-driver`" % program)
        self.port = free_port()
        self.profile = tempfile.mkdtemp(prefix="wsp-chromium-")
        self.session = None

    def start(self):
        self.launch([shutil.which("chromedriver"), "--port=%d" % self.port, "--allowed-ips="])
        self.ready(lambda: self._try("GET", "/status").get("ready"), 30)
        options = {"binary": shutil.which("chromium"), "args": SWITCHES + ["--user-data-dir=" + self.profile],
                   "perfLoggingPrefs": {"enableNetwork": True}}
        wanted = {"browserName": "chrome", "goog:chromeOptions": options,
                  "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"}}
        self.session = self._ask("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})["sessionId"]
        return self

    def close(self):
        if self.session:
            self._ask("DELETE", "/session/" + self.session)
            self.session = None
        self.stop()
        shutil.rmtree(self.profile, ignore_errors=True)

    def _ask(self, method, path, body=None):
        connection = http.client.HTTPConnection(HOST, self.port, timeout=60)
        try:
            text = json.dumps(body if body is not None else {}) if method == "POST" else None
            connection.request(method, path, text, {"Content-Type": "application/json"})
            answer = json.loads(connection.getresponse().read())["value"]
        finally:
            connection.close()
        if isinstance(answer, dict) and "error" in answer:
            raise AssertionError("%s %s: %s" % (method, path, answer.get("message", answer["error"])))
        return answer

    def _try(self, method, path):
        try:
            return self._ask(method, path)
        except OSError:
            return {}

    def _in(self, method, path, body=None):
        return self._ask(method, "/session/%s%s" % (self.session, path), body)

    def devtools(self, command, **parameters):
        return self._in("POST", "/goog/cdp/execute", {"cmd": command, "params": parameters})

    def open(self, url):
        self._in("POST", "/url", {"url": url})

    def run(self, script):
        """The value of a script's `return`."""
        return self._in("POST", "/execute/sync", {"script": script, "args": []})

    def text(self, selector):
        """What an element shows; empty where it is hidden or missing."""
        return self.run("const e = document.querySelector(%s); return e ? e.innerText : ''" % json.dumps(selector))

    def until(self, what, condition, seconds=30.0):
        """Waits for a script's value to become true."""
        try:
            return wait_until(what, lambda: self.run("return " + condition), seconds, every=0.2)
        except Late as late:
            raise Late("%s\nthe page shows:\n%s" % (late, self.text("body"))) from None

    def element(self, selector):
        found = self._in("POST", "/element", {"using": "css selector", "value": selector})
        return next(iter(found.values()))

    def click(self, selector):
        self._in("POST", "/element/%s/click" % self.element(selector))

    def type(self, selector, text):
        element = self.element(selector)
        self._in("POST", "/element/%s/clear" % element)
        self._in("POST", "/element/%s/value" % element, {"text": text})

    def look(self, width, height=900, dark=False, phone=False):
        """The size and the colours of the screen."""
        self.devtools("Emulation.setDeviceMetricsOverride", width=width, height=height,
                      deviceScaleFactor=1, mobile=phone)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.devtools("Emulation.setEmulatedMedia", features=[scheme])

    def picture(self, path):
        """The whole page, however long, as a PNG file."""
        size = self.devtools("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        taken = self.devtools("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as f:
            f.write(base64.b64decode(taken["data"]))

    def complaints(self):
        """What the console said since the last call, at warning or above."""
        entries = self._in("POST", "/se/log", {"type": "browser"})
        return ["%s %s" % (entry["level"], entry["message"]) for entry in entries if entry["level"] in ("SEVERE", "WARNING")]

    def asked(self):
        """Every URL that was asked for since the last call."""
        messages = [json.loads(entry["message"])["message"] for entry in self._in("POST", "/se/log", {"type": "performance"})]
        return [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]


__all__ = ["Browser", "Late", "Missing"]
