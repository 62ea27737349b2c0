"""What a site allows, and how its site.toml says so."""

from __future__ import annotations

import io
import types

import pytest

from tfl_research.errors import UserError
from tfl_research.experiment.at_sites import site as site_module
from tfl_research.federation.site.policy import SitePolicy
from tfl_research.federation.site.site_file import SiteFile
from tfl_research.federation.wire.authentication import make_key
from tfl_research.federation.wire.handler import Refused


class _Experiment:
    def __init__(self, **settings):
        self._settings = {
            "task": "csv",
            "algorithm": "fed_avg",
            "rounds": 10,
            "privacy_unit": None,
            **settings,
        }

    def flat(self):
        return self._settings


class _Clients:
    client_ids = ("a", "b")

    def num_examples(self, client_id):
        return {"a": 20, "b": 50}[client_id]


_TASK = types.SimpleNamespace(train=_Clients())
_RECORD = {"privacy_unit": "record", "record_noise_multiplier": 1.0}
_CLIENT = {"privacy_unit": "client", "noise_multiplier": 1.0}


class TestPolicy:
    @pytest.mark.parametrize(
        ("rules", "settings"),
        [
            ({}, {}),
            ({}, _RECORD),
            ({"tasks": ("csv", "heart")}, {}),
            ({"algorithms": ("fed_avg",)}, {}),
            ({"most_rounds": 10}, {}),
            ({"metrics": ("loss", "examples")}, {}),
            ({"metrics": ("loss",)}, {"secure_sums": True}),
            ({"least_examples": 20}, {}),
            ({"least_record_noise_multiplier": 1.0}, _RECORD),
            ({"least_user_noise_multiplier": 1}, _CLIENT),
            (
                {
                    "least_user_noise_multiplier": 5.0,
                    "least_record_noise_multiplier": 1.0,
                },
                _RECORD,
            ),
            # Calibrated: the site's ledger checks the noise.
            (
                {"least_record_noise_multiplier": 1.0},
                {**_RECORD, "record_noise_multiplier": None},
            ),
            ({"largest_epsilon": 1.0, "delta": 1e-5}, _RECORD),
        ],
    )
    def test_allows(self, rules, settings):
        SitePolicy(**rules).check(_Experiment(**settings), _TASK)

    @pytest.mark.parametrize(
        ("rules", "settings", "words"),
        [
            ({"tasks": ("heart",)}, {}, r"task = 'csv': .* tasks = \['heart'\]"),
            ({"tasks": ()}, {}, r"tasks = \[\]"),
            (
                {"algorithms": ("fed_avg",)},
                {"algorithm": "scaffold"},
                r"algorithm = 'scaffold': site.toml has algorithms = \['fed_avg'\]",
            ),
            (
                {"most_rounds": 9},
                {},
                "has 10 rounds, but site.toml has most_rounds = 9",
            ),
            ({"most_rounds": 9}, {"rounds": None}, "has None rounds"),
            (
                {"metrics": ("loss",)},
                {"secure_sums": False},
                r"number of examples, but site.toml has metrics = \['loss'\], without",
            ),
            (
                {"least_examples": 21},
                {},
                "'a' has too few examples: site.toml has least_examples = 21$",
            ),
            (
                {"least_record_noise_multiplier": 1.1},
                _RECORD,
                "noise multiplier 1 for records, but .*least_record_noise_multiplier "
                "= 1.1",
            ),
            (
                {"least_record_noise_multiplier": 1.0},
                {},
                "no privacy, but site.toml has least_record_noise_multiplier = 1$",
            ),
            (
                {"least_record_noise_multiplier": 1.0},
                _CLIENT,
                "privacy of clients, but site.toml has least_record_noise_multiplier",
            ),
            (
                {"least_user_noise_multiplier": 1.1},
                _CLIENT,
                "noise multiplier 1 for clients, but .*least_user_noise_multiplier = "
                "1.1",
            ),
            (
                {"least_user_noise_multiplier": 1.0},
                {**_CLIENT, "noise_multiplier": None},
                "does not state its noise multiplier, but .*give --noise_multiplier|"
                "give noise_multiplier",
            ),
            (
                {
                    "least_user_noise_multiplier": 1.0,
                    "least_record_noise_multiplier": 2.0,
                },
                {},
                "least_record_noise_multiplier = 2 or least_user_noise_multiplier = 1",
            ),
            (
                {"largest_epsilon": 1.0},
                _CLIENT,
                "privacy of clients, so nothing bounds .* largest_epsilon = 1",
            ),
            (
                {"least_record_noise_multiplier": 1.0},
                {**_RECORD, "record_noise_multiplier": float("nan")},
                "noise multiplier nan",
            ),
        ],
    )
    def test_refuses(self, rules, settings, words):
        with pytest.raises(Refused, match=words):
            SitePolicy(**rules).check(_Experiment(**settings), _TASK)

    def test_the_number_of_examples_does_not_leave(self):
        with pytest.raises(Refused) as caught:
            SitePolicy(least_examples=37).check(_Experiment(), _TASK)
        assert "20" not in str(caught.value)

    def test_rounds_beyond_those_that_were_announced(self):
        SitePolicy(most_rounds=3).check_round(3)
        SitePolicy().check_round(10**6)
        with pytest.raises(Refused, match=r"round 4: .* most_rounds = 3"):
            SitePolicy(most_rounds=3).check_round(4)

    def test_metrics(self):
        policy = SitePolicy(metrics=("loss",))
        policy.check_metrics(["loss"])
        with pytest.raises(
            Refused, match=r"'accuracy' must not .* metrics = \['loss'\]"
        ):
            policy.check_metrics(["loss", "accuracy"])
        SitePolicy().check_metrics(["anything"])
        assert SitePolicy().allows("anything")
        assert not SitePolicy(metrics=()).allows("loss")

    def test_calibrated_noise(self):
        policy = SitePolicy(least_record_noise_multiplier=1.0)
        policy.check_record_noise(1.0)
        with pytest.raises(Refused, match=r"0\.99 for records"):
            policy.check_record_noise(0.99)

    @pytest.mark.parametrize(
        ("table", "words"),
        [
            ({"task": ["csv"]}, "unknown entry 'task'"),
            ({"tasks": "csv"}, "tasks = 'csv': expected a list of names"),
            ({"tasks": [1]}, r"tasks = \[1\]"),
            ({"most_rounds": 0}, "most_rounds = 0: expected a whole number"),
            ({"most_rounds": True}, "most_rounds = True"),
            ({"most_rounds": 1.5}, "most_rounds = 1.5"),
            ({"least_examples": -1}, "least_examples = -1"),
            ({"largest_epsilon": 0.0}, "largest_epsilon = 0.0: expected a number"),
            ({"largest_epsilon": float("inf")}, "largest_epsilon = inf"),
            ({"largest_epsilon": 10**400}, "largest_epsilon = 1000"),
            ({"largest_epsilon": 1.0, "delta": 1.0}, "delta = 1.0: .*below 1"),
            ({"delta": 1e-5}, "give both, or neither"),
            ({"least_user_noise_multiplier": "1"}, "expected a number above 0"),
        ],
    )
    def test_values_that_do_not_fit(self, table, words):
        with pytest.raises(UserError, match=words) as caught:
            SitePolicy.of(table, "F: [policy]")
        assert str(caught.value).startswith("F: [policy]")


_WHOLE = """
[site]
name = "nord"
key = "own.key"
socket = "run/nord.sock"
folder = "/var/nord"
plugin = "my_tasks"
[data]
task = "csv"
data_dir = "data"
label_column = "num"
held_out_fraction = 0.5
clients = ["a", "b"]
[policy]
tasks = ["csv"]
most_rounds = 7
"""


class TestSiteFile:
    @staticmethod
    def _read(folder, text):
        (folder / "site.toml").write_text(text)
        return SiteFile.read(folder / "site.toml")

    def test_every_entry(self, tmp_path):
        key = make_key(tmp_path / "own.key")
        site = self._read(tmp_path, _WHOLE)
        assert site.name == "nord"
        assert site.key == key
        assert key.hex() not in repr(site)
        assert repr(key) not in repr(site)
        assert site.socket == tmp_path / "run" / "nord.sock"
        assert str(site.folder) == "/var/nord"
        assert site.plugin == "my_tasks"
        assert site.task == "csv"
        assert site.options == {
            "data_dir": str(tmp_path / "data"),
            "label_column": "num",
            "held_out_fraction": 0.5,
        }
        assert site.clients == ("a", "b")
        assert site.policy == SitePolicy(tasks=("csv",), most_rounds=7)

    def test_the_least(self, tmp_path):
        make_key(tmp_path / "site.key")
        site = self._read(tmp_path, '[site]\nname = "nord"\n[data]\ntask = "heart"')
        assert site.socket == tmp_path / "site.sock"
        assert site.folder == tmp_path / "state"
        assert (site.options, site.clients, site.plugin) == ({}, None, None)
        assert site.policy == SitePolicy()
        site.load_plugin()

    def test_a_file_of_a_windows_editor(self, tmp_path):
        make_key(tmp_path / "own.key")
        text = "\ufeff" + _WHOLE.lstrip().replace("\n", "\r\n")
        (tmp_path / "site.toml").write_bytes(text.encode())
        site = SiteFile.read(tmp_path / "site.toml")
        assert site.policy == SitePolicy(tasks=("csv",), most_rounds=7)

    def test_a_plugin_that_is_missing(self, tmp_path):
        make_key(tmp_path / "own.key")
        site = self._read(tmp_path, _WHOLE.replace("my_tasks", "no_such_module"))
        with pytest.raises(UserError, match="no_such_module"):
            site.load_plugin()

    @pytest.mark.parametrize(
        ("old", "new", "words"),
        [
            ("[site]", "[sites]", "unknown entry 'sites'"),
            ("[policy]", "[rules]", "unknown entry 'rules'"),
            ('name = "nord"', "", r"\[site\]: has no name"),
            ('name = "nord"', 'name = "a/b"', r"\[site\]: name is 'a/b'"),
            ('socket = "run/nord.sock"', "socket = 3", "socket must be a text, got 3"),
            ('plugin = "my_tasks"', 'plugs = "x"', "unknown entry 'plugs'"),
            ('task = "csv"', "", r"\[data\]: has no task"),
            ('data_dir = "data"', "data_dir = 3", "data_dir must be a text"),
            ("held_out_fraction = 0.5", "x = [1]", "x must be a text, a number"),
            ('clients = ["a", "b"]', 'clients = "a"', "clients must be a list"),
            ('clients = ["a", "b"]', "clients = []", "at least one"),
            ('clients = ["a", "b"]', 'clients = ["a", "a"]', "different names"),
            ("most_rounds = 7", "most_rounds = 0", r"\[policy\]: most_rounds = 0"),
            ("most_rounds = 7", "most_rounds =", "is not TOML"),
            ("own.key", "other.key", "cannot read the key"),
        ],
    )
    def test_what_does_not_fit(self, tmp_path, old, new, words):
        make_key(tmp_path / "own.key")
        assert old in _WHOLE
        with pytest.raises(UserError, match=words) as caught:
            self._read(tmp_path, _WHOLE.replace(old, new))
        assert "\n" not in str(caught.value)

    def test_tables_that_are_missing(self, tmp_path):
        with pytest.raises(UserError, match=r"has no table \[site\]"):
            self._read(tmp_path, "")
        with pytest.raises(UserError, match=r"has no table \[data\]"):
            self._read(tmp_path, '[site]\nname = "nord"')
        with pytest.raises(UserError, match="cannot be read"):
            SiteFile.read(tmp_path / "none.toml")


def test_a_site_says_which_variables_change_rounding(tmp_path, monkeypatch):
    served = []
    monkeypatch.setattr(
        site_module.site_server, "serve", lambda *_, **options: served.append(options)
    )
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_enable_fast_math=true")
    make_key(tmp_path / "own.key")
    (tmp_path / "site.toml").write_text(_WHOLE)
    printed = io.StringIO()
    site_module.serve_site(tmp_path / "site.toml", stream=printed)
    assert printed.getvalue().startswith("warning: XLA_FLAGS='--xla_cpu_enable_fast_")
    assert len(served) == 1


def test_the_first_start_makes_the_secret_and_its_folder(tmp_path):
    """Also of a site that only trains for an engine's job, without a server."""
    folder = tmp_path / "state"
    secret = site_module.secret_of(folder)
    assert len(secret) == 32
    assert site_module.secret_of(folder) == secret
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (folder / "secret").stat().st_mode & 0o777 == 0o600
    folder.chmod(0o755)
    with pytest.raises(UserError, match="others can enter"):
        site_module.secret_of(folder)
