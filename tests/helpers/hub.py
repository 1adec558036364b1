"""A stand-in for the Hugging Face Hub, on this machine."""

import base64
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TOKEN = "hf_right"


@contextmanager
def hub():
    """Serves one; it has `address`, `repositories` (what was created) and `files` (what was committed)."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.repositories, server.files = {}, {}
    server.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.headers.get("authorization") != f"Bearer {TOKEN}":
            self._answer({"error": "Invalid user token"}, 401)
        elif self.path == "/api/whoami-v2":
            self._answer({"name": "you", "type": "user", "auth": {"accessToken": {"role": "write"}}})
        else:
            self._answer({"error": "nothing here"}, 404)

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        if self.path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked.get('organization') or 'you'}/{asked['name']}"
            self.server.repositories[name] = asked
            self._answer({"url": f"{self.server.address}/{name}", "name": name, "id": name})
        elif "/preupload/" in self.path:
            files = [{"path": file["path"], "uploadMode": "regular"} for file in json.loads(body)["files"]]
            self._answer({"files": [{**file, "shouldIgnore": False, "oid": None} for file in files]})
        elif "/commit/" in self.path:
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    self.server.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            address = f"{self.server.address}/you/digits/commit/abc"
            self._answer({"success": True, "commitUrl": address, "commitOid": "abc", "hookOutput": ""})
        else:
            self._answer({}, 200)

    def _answer(self, value, code=200):
        body = json.dumps(value).encode()
        self.send_response(code)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass
