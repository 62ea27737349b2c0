"""The live page, over runs that a thread pretends to train."""

from __future__ import annotations

import http.client
import json
import os
import re
import subprocess
import threading
import time

import pytest
from werkzeug.test import Client

from tfl_research.cli import dashboard as command
from tfl_research.privacy.ledger import ledger_budget
from tfl_research.privacy.ledger.lines.budget import LedgerBudget
from tfl_research.report.dashboard import access
from tfl_research.report.dashboard.app import Dashboard
from tfl_research.report.dashboard.watched import Watched

HEADER = "round,eval_accuracy,epsilon,delta\n"


def begin(folder, *, rounds=10, task="mnist"):
    folder.mkdir(parents=True)
    record = {
        "experiment": "dp_fed_avg",
        "hparams": {"task": task, "rounds": rounds, "target_epsilon": 4.0},
        "privacy_plan": {"unit": "client", "delta": 0.001},
    }
    (folder / "hparams.json").write_text(json.dumps(record))
    (folder / "metrics.csv").write_text(HEADER)
    return folder


def add_round(folder, number):
    with (folder / "metrics.csv").open("a") as file:
        file.write(f"{number},0.{50 + number},{number / 4},0.001\n")


def end(folder, number):
    summary = {
        "completed_rounds": number,
        "stop_reason": "rounds",
        "final": {"round": number},
    }
    (folder / "summary.json").write_text(json.dumps(summary))


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "results"
    folder.mkdir()
    return folder


@pytest.fixture
def client(root):
    return Client(Dashboard(Watched(root), rest=0))


def text_of(response):
    assert response.status_code == 200, response.status
    return " ".join(response.text.split())


def test_a_run_is_followed_while_it_trains(root, client):
    assert "No run in this folder is running." in text_of(client.get("/"))
    folder = begin(root / "sweep" / "points" / "a", rounds=20_000)
    stop = threading.Event()

    def train():
        number = 0
        while not stop.is_set() and number < 19_000:
            number += 1
            row = f"{number},0.5{number % 10},{number / 100},0.001\n"
            for part in (row[:7], row[7:]):
                # A row is written in two parts, as a disk may do.
                with (folder / "metrics.csv").open("a") as file:
                    file.write(part)
                stop.wait(0.01)

    thread = threading.Thread(target=train)
    thread.start()
    done = []
    # The thread may wait for a core; nothing is timed but a failure.
    latest = time.monotonic() + 60
    try:
        while len(set(done)) < 3:
            assert time.monotonic() < latest, done
            page = text_of(client.get("/run/sweep/points/a"))
            found = re.search(r"([0-9,]+) of 20,000 rounds so far", page)[1]
            done.append(int(found.replace(",", "")))
        assert "sweep/points/a" in text_of(client.get("/"))
    finally:
        stop.set()
        thread.join()
    assert done == sorted(done)
    rows = len((folder / "metrics.csv").read_text().splitlines()) - 1
    end(folder, rows)
    last = text_of(client.get("/run/sweep/points/a"))
    assert f"{rows:,} rounds: all planned rounds are done" in last
    listed = text_of(client.get("/"))
    assert "No run in this folder is running." in listed
    assert f"<td>{rows:,} of 20,000</td><td>0.5" in listed


def test_a_running_run_has_a_bar(root, client):
    folder = begin(root / "a")
    for number in (1, 2, 3):
        add_round(folder, number)
    text = text_of(client.get("/"))
    assert '<span style="width: 30.0%">' in text
    assert "<dt>rounds</dt><dd>3 of 10</dd>" in text
    assert "<dt>ε</dt><dd>0.75 of 4</dd>" in text
    # Long after its last round it may have been cut off.
    old = time.time() - 3 * 3600
    for name in os.listdir(folder):
        os.utime(folder / name, (old, old))
    assert "cut off, or silent for 3 h 0 min" in text_of(client.get("/"))


def test_an_unchanged_page_is_not_sent_again(root, client):
    folder = begin(root / "a")
    add_round(folder, 1)
    for address in ("/", "/run/a"):
        first = client.get(address)
        again = client.get(address, headers={"If-None-Match": first.headers["ETag"]})
        assert (again.status_code, again.data) == (304, b"")
    add_round(folder, 2)
    again = client.get("/run/a", headers={"If-None-Match": first.headers["ETag"]})
    assert again.status_code == 200


def test_a_page_is_not_made_again_at_once(root):
    folder = begin(root / "a")
    add_round(folder, 1)
    client = Client(Dashboard(Watched(root), rest=1e9))
    first = client.get("/run/a")
    add_round(folder, 2)
    again = client.get("/run/a")
    assert again.headers["ETag"] == first.headers["ETag"]
    assert again.text == first.text


def test_nothing_is_written(root, client):
    folder = begin(root / "a")
    add_round(folder, 1)
    before = sorted((p, p.stat().st_mtime_ns) for p in root.rglob("*"))
    for address in ("/", "/run/a"):
        assert client.get(address).status_code == 200
        for method in ("POST", "PUT", "DELETE", "PATCH"):
            assert client.open(address, method=method).status_code == 405
    assert sorted((p, p.stat().st_mtime_ns) for p in root.rglob("*")) == before


@pytest.mark.parametrize(
    "name",
    [
        "..",
        "../elsewhere",
        "%2e%2e/elsewhere",
        "/etc",
        "a/../../elsewhere",
        "a/hparams.json",
    ],
)
def test_only_runs_of_the_folder_are_served(root, client, name):
    begin(root / "a")
    other = begin(root.parent / "elsewhere")
    (root / "link").symlink_to(other)
    assert client.get(f"/run/{name}").status_code in (308, 404)
    assert client.get("/run/link").status_code == 404
    assert "elsewhere" not in text_of(client.get("/"))
    assert "link" not in re.findall(r">([^<>]*)</a>", client.get("/").text)


def test_what_a_private_run_withholds_is_not_served(root, client):
    folder = begin(root / "a")
    (folder / "run_seed").write_text("123456789")
    (folder / "metrics.csv").write_text("round,epsilon,delta\n1,0.5,0.001\n")
    for address in ("/", "/run/a"):
        text = text_of(client.get(address))
        assert "123456789" not in text
        assert "accuracy" not in text.lower()
    assert client.get("/run/a/run_seed").status_code == 404


def test_names_are_escaped_and_damage_is_said(root, client):
    begin(root / "<b>x", task="<script>y</script>")
    (begin(root / "broken") / "hparams.json").write_text("{")
    text = text_of(client.get("/"))
    assert "<b>x" not in text
    assert "<script>y" not in text
    assert "&lt;b&gt;x" in text
    assert "hparams.json is not JSON" in text
    assert "hparams.json is not JSON" in text_of(client.get("/run/broken"))
    assert client.get("/run/%3Cb%3Ex").status_code == 200


def test_shared_ledgers_have_what_is_spent_and_left(root, client):
    begin(root / "a")
    path = root / "shared.jsonl"
    ledger_budget.write_budget(path, LedgerBudget(2.5, 1e-5))
    text = text_of(client.get("/"))
    assert "ε = 0 at δ = 1e-05 is spent of a budget of 2.5: 2.5 left." in text
    path.write_bytes(path.read_bytes().replace(b"2.5", b"9.5"))
    damaged = text_of(client.get("/"))
    assert "shared.jsonl, line 1: was edited" in damaged
    # A run's own lines are no shared ledger.
    (root / "a" / "measurements.jsonl").write_text("{}\n")
    assert "measurements" not in text_of(client.get("/"))


@pytest.mark.parametrize(
    ("host", "code"),
    [
        ("localhost:8765", 200),
        ("127.0.0.1", 200),
        ("[::1]:8765", 200),
        ("evil.example", 403),
        ("localhost.evil.example:8765", 403),
        ("192.168.0.7:8765", 403),
    ],
)
def test_a_name_of_elsewhere_is_refused_on_loopback(client, host, code):
    assert client.get("/", headers={"Host": host}).status_code == code


def test_off_loopback_a_token_is_needed(root):
    token = access.new_token()
    client = Client(Dashboard(Watched(root), token))
    base = "http://lab.example:8765/"
    assert client.get("/", base_url=base).status_code == 403
    assert client.get("/?token=wrong", base_url=base).status_code == 403
    answer = client.get(f"/?token={token}", base_url=base)
    # The token leaves the address, and stays in a cookie that scripts cannot read.
    assert (answer.status_code, answer.location) == (302, "/")
    cookie = answer.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    page = client.get("/", base_url=base)
    assert page.status_code == 200
    assert token not in page.text


def test_the_server_listens_on_loopback(root):
    made, token = command.server(str(root), "127.0.0.1", 0)
    thread = threading.Thread(target=made.serve_forever)
    thread.start()
    try:
        assert token is None
        assert command.address(made, token) == f"http://127.0.0.1:{made.port}/"
        connection = http.client.HTTPConnection("127.0.0.1", made.port, timeout=30)
        connection.request("GET", "/")
        answer = connection.getresponse()
        assert answer.status == 200
        assert answer.headers["X-Frame-Options"] == "DENY"
        connection.close()
    finally:
        made.shutdown()
        thread.join()
        made.server_close()


def test_a_port_that_is_taken_is_said_in_one_line(root, capsys):
    made, _ = command.server(str(root), "127.0.0.1", 0)
    try:
        assert command.main([str(root), f"--port={made.port}"]) == 2
    finally:
        made.server_close()
    error = capsys.readouterr().err
    assert error.startswith(f"dashboard: --host=127.0.0.1 --port={made.port}: ")
    assert error.endswith("choose another --port (0 for any) or --host\n")
    assert error.count("\n") == 1


def test_another_host_gets_a_token(root):
    made, token = command.server(str(root), "0.0.0.0", 0)
    made.server_close()
    assert command.address(made, token).endswith(f"/?token={token}")
    assert len(token) == 32


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["nowhere"], "nowhere is not a folder"),
        ([".", "--port=70000"], "--port=70000: must be from 0 to 65535"),
        ([".", "--host=203.0.113.9", "--port=0"], "--host=203.0.113.9"),
    ],
)
def test_what_cannot_be_served_is_refused_in_one_line(
    root, monkeypatch, capsys, arguments, problem
):
    monkeypatch.chdir(root)
    assert command.main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("dashboard: ")
    assert problem in error
    assert error.count("\n") == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
def test_other_users_of_the_machine_are_turned_away(root):
    made, token = command.server(str(root), "127.0.0.1", 0)
    assert token is None
    threading.Thread(target=made.serve_forever, daemon=True).start()
    asks = (
        "import sys, urllib.request; "
        "print(urllib.request.urlopen(sys.argv[1], timeout=10).status)"
    )

    def asked_by(user):
        done = subprocess.run(
            ["/usr/bin/env", "python3", "-c", asks, command.address(made, token)],
            capture_output=True,
            text=True,
            user=user,
            cwd="/",
            check=False,
        )
        return done.stdout or done.stderr

    assert asked_by(0) == "200\n"
    assert "200" not in asked_by(65534)
    made.shutdown()
    made.server_close()
