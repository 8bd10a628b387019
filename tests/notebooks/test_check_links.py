"""The weekly link check: which addresses it finds, and what it says of each kind of answer."""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import check_links
import pytest


class Answers(BaseHTTPRequestHandler):
    def do_HEAD(self):
        self.send_response({"/here": 200, "/robots": 403, "/no-head": 405}.get(self.path, 404))
        self.end_headers()

    def do_GET(self):
        self.send_response(200 if self.path == "/no-head" else 404)
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    served = HTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=served.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{served.server_port}"
    served.shutdown()
    served.server_close()


def test_addresses_end_where_the_text_goes_on():
    text = "See [the paper](https://arxiv.org/abs/2006.11239). Or <https://a.org/b_(c)>, https://d.org/e; [us](https://github.com/ORG/REPO)."
    assert check_links.addresses(text) == {"https://arxiv.org/abs/2006.11239", "https://a.org/b_(c)", "https://d.org/e"}


@pytest.mark.parametrize("page, expected", [("here", None), ("no-head", None), ("robots", None), ("gone", "answers 404")])
def test_only_what_is_gone_is_a_problem(server, page, expected):
    assert check_links.problem(f"{server}/{page}") == expected


def test_a_server_that_is_not_there_is_a_problem(server):
    assert "does not answer" in check_links.problem("http://127.0.0.1:9")


def test_a_notebooks_cells_are_read_and_the_file_is_named(server, tmp_path, capsys):
    cells = [{"source": [f"[one]({server}/here) and\n", f"[two]({server}/gone)"], "outputs": [f"{server}/output"]}]
    path = tmp_path / "page.ipynb"
    path.write_text(json.dumps({"cells": cells}))
    assert check_links.main([str(path)]) == 1
    assert capsys.readouterr().out == f"{server}/gone answers 404 (page.ipynb)\n2 addresses, 1 of them gone\n"
    assert len(check_links.documents()) > 20
