"""docs/federation.md: its commands run, and each flag, field and file exists."""

from __future__ import annotations

import dataclasses
import pathlib
import re
import shlex
import shutil

import pandas as pd
import pytest

from tfl_research.cli import site as site_command
from tfl_research.cli.federation import __main__ as federation, export, site_template
from tfl_research.cli.flag_values import flags
from tfl_research.federation import federation_file, toml_file
from tfl_research.federation.site.policy import SitePolicy
from tfl_research.federation.site.site_file import SiteFile
from tfl_research.federation.wire import authentication
from tfl_research.federation.wire.messages import _DTYPES, _MAGIC, VERSION

ROOT = pathlib.Path(__file__).resolve().parents[3]
DOCUMENT = (ROOT / "docs" / "federation.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", DOCUMENT, re.MULTILINE | re.DOTALL)
SHELL = [block for kind, block in BLOCKS if kind == "sh"]


def _commands(block: str) -> list[list[str]]:
    return [shlex.split(line) for line in block.replace("\\\n", " ").splitlines()]


COMMANDS = [command for block in SHELL for command in _commands(block)]


def _parse(command: list[str]) -> object:
    """What the command's own parser makes of the command line."""
    program, *arguments = command
    if program == "scripts/federation":
        parsed, rest = federation.parser().parse_known_args(arguments)
        export.split(arguments, parsed, rest)
        if rest:
            preset = export.preset_of(parsed.experiment)
            assert flags.parse(preset, [parsed.experiment, *rest]).experiment()
        return parsed
    if program == "scripts/site":
        return site_command.parser().parse_args(arguments)
    if program == "scripts/run":
        given = flags.parse(export.preset_of(arguments[0]), arguments)
        assert given.output.folder
        return given.experiment()
    assert program in ("mv", "mkdir", "cp")
    return None


def test_every_command_is_understood():
    programs = {command[0] for command in COMMANDS}
    assert {"scripts/federation", "scripts/site", "scripts/run"} <= programs
    for command in COMMANDS:
        _parse(command)


def _known_flags() -> set[str]:
    known = set()
    parsers = [federation.parser(), site_command.parser()]
    while parsers:
        parser = parsers.pop()
        for action in parser._actions:
            known.update(action.option_strings)
            if isinstance(action.choices, dict):
                parsers += action.choices.values()
    presets = {c[1] for c in COMMANDS if c[0] == "scripts/run"}
    for path in presets:
        known.update(
            f"--{name}" for name in flags.define(export.preset_of(path)).values
        )
    return known


def test_every_flag_that_is_named_exists():
    named = set(re.findall(r"(?<![\w-])--[a-z]\w+", DOCUMENT))
    assert "--minimum_count" in named
    assert not named - _known_flags()


def test_every_file_that_is_named_exists():
    named = set(
        re.findall(r"(?:scripts|experiments|docs|tfl_research)/[\w/.]+", DOCUMENT)
    )
    named = {name.rstrip("./") for name in named} - {"experiments"}
    assert "tfl_research/federation/wire/messages.py" in named
    missing = [
        name
        for name in named
        if not (ROOT / name).exists() and not name.startswith("tfl_research/scripts")
    ]
    assert not missing


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with the data of two hospitals, in which commands run."""
    for number, name in enumerate(("north", "south")):
        data = tmp_path / name / "data"
        data.mkdir(parents=True)
        rows = range(40)
        pd.DataFrame(
            {
                "age": [20 + (7 * row + 3 * number) % 31 for row in rows],
                "ward": ["ab"[row % 2] for row in rows],
                "fell": ["yes" if row % 3 else "no" for row in rows],
            }
        ).to_csv(data / f"{name}.csv", index=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_shortest_path_leads_to_sites_that_can_start(here, capsys):
    block = next(block for block in SHELL if "schema draft" in block)
    for command in _commands(block):
        if command[0] == "scripts/federation":
            assert federation.main(command[1:]) == 0, capsys.readouterr().err
        elif command[0] == "mkdir":
            pathlib.Path(command[1]).mkdir()
        else:
            assert command[0] in ("mv", "cp")
            {"mv": shutil.move, "cp": shutil.copy}[command[0]](*command[1:])
    keys = federation_file.read(here / "wards" / "federation.toml").keys()
    for name in ("north", "south"):
        site = SiteFile.read(here / "wards" / "sites" / name / "site.toml")
        assert (site.name, site.key, site.task) == (name, keys[name], "csv")
        data = here / "wards" / "sites" / name / "data"
        assert site.options == {"data_dir": str(data), "label_column": "fell"}
        assert sorted(p.name for p in data.iterdir()) == sorted(
            [f"{name}.csv", "schema.json"]
        )
        assert site.policy == SitePolicy()
    assert [p.name for p in (here / "wards" / "coordinator").iterdir()] == [
        "schema.json"
    ]


def _write_site(folder: pathlib.Path, text: str) -> SiteFile:
    authentication.make_key(folder / "site.key")
    (folder / "site.toml").write_text(text)
    return SiteFile.read(folder / "site.toml")


def test_the_example_of_a_site_file_is_taken(tmp_path):
    (text,) = [block for kind, block in BLOCKS if kind == "toml"]
    site = _write_site(tmp_path, text)
    assert site.policy.largest_epsilon == 8.0


def test_every_field_of_a_site_file_is_documented_and_in_the_template(tmp_path):
    rules = {field.name for field in dataclasses.fields(SitePolicy)}
    documented = set(re.findall(r"^\|[^|]*\| `(\w+)`", DOCUMENT, re.MULTILINE))
    assert rules <= documented
    assert {"name", "key", "socket", "folder", "plugin", "clients"} <= documented
    template = site_template.text("north", "fell")
    everything = re.sub(r"^# (\w+ = )", r"\1", template, flags=re.MULTILINE)
    site = _write_site(tmp_path, everything)
    assert None not in dataclasses.astuple(site.policy)
    assert site.plugin == "our_module"
    assert site.clients == ("ward_a",)
    table = toml_file.read(site.path)
    assert set(table["policy"]) == rules


def test_the_documented_format_is_the_format():
    assert f"Version {VERSION};" in DOCUMENT
    assert f"`{_MAGIC.decode()}`" in DOCUMENT
    assert f"`{authentication._MAGIC.decode()}`" in DOCUMENT
    kinds = {re.sub(r"\d", "", name) for name in _DTYPES}
    assert kinds == {"bool", "int", "uint", "float", "complex"}
