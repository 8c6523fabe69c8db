"""The shape of the source: which room may import which, small files, documented names. Walks the AST of the package."""

import ast
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import pytest

PACKAGE = Path(__file__).parents[1] / "simulator"
FILES = sorted(PACKAGE.rglob("*.py"))
ORDER = (
    ("hardware", "model", "parallel"),
    ("topology", "collectives"),
    ("program",),
    ("numeric", "cost", "network"),
    ("serving", "workload"),
    ("engine",),
    ("metrics",),
    ("planning", "validation"),
    ("report",),
    ("scenario",),
    ("commands", "cli"),
)
"""Rooms from the ground up (DESIGN.md): a module imports from its own floor or from one below."""
FREE = ("units", "errors")
APART = {("numeric", "cost"), ("cost", "numeric"), ("numeric", "network"), ("network", "numeric")}
"""Rooms on one floor that must not know of each other: numbers and time are separate readings."""
ONLY_IN = {
    "simpy": ("engine",),
    "ruamel": ("scenario",),
    "pydantic": ("scenario",),
    "plotly": ("report",),
    "typer": ("cli", "commands"),
    "torch": (),
    "transformers": (),
    "yaml": (),
}
LONGEST, MEDIAN = 400, 150
LONGER = {"program/ops.py": "one closed union of ops; a second file would only part what is read together"}
ENTRY = ("__main__", "__init__")

FLOOR = {room: floor for floor, rooms in enumerate(ORDER) for room in rooms}


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(tree: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    """(dotted module, node) of every import."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            module = node.module or ""
            yield module, node
            if module == "simulator":
                for alias in node.names:
                    if not alias.name.startswith("__"):
                        yield f"simulator.{alias.name}", node


def refusal(importer: str, imported: str) -> str:
    """Why room `importer` may not import room `imported`; empty: it may."""
    if imported in FREE or importer in ENTRY or importer == imported:
        return ""
    if importer in FREE:
        return f"{importer} is free to all and imports none of them"
    if (importer, imported) in APART:
        return f"{importer} and {imported} are separate readings of a program"
    if importer not in FLOOR or imported not in FLOOR:
        return f"{imported if importer in FLOOR else importer} has no floor in the order of rooms"
    if FLOOR[imported] > FLOOR[importer]:
        return f"{imported} is above {importer}"
    return ""


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_arrows_point_down(path: Path) -> None:
    tree = ast.parse(path.read_text())
    for module, node in imports(tree):
        top, *rest = module.split(".")
        if top == "simulator" and rest:
            assert not (why := refusal(room_of(path), rest[0])), f"line {node.lineno}: {module}: {why}"  # type: ignore[attr-defined]
        elif top in ONLY_IN:
            assert room_of(path) in ONLY_IN[top], f"{top} is imported only in {ONLY_IN[top] or 'tests'}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_no_import_of_own_modules_inside_functions(path: Path) -> None:
    """It would be the smell of a lost arrow. The command line alone may: `--help` need not load NumPy."""
    if room_of(path) in ("cli", "commands", "__main__"):
        return
    for function in ast.walk(ast.parse(path.read_text())):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            inside = [module for module, _ in imports(function) if module.split(".")[0] == "simulator"]
            assert not inside, f"{function.name} imports {inside}"


def test_the_oracle_for_arrows_can_fail() -> None:
    assert refusal("numeric", "cost")
    assert refusal("cost", "numeric")
    assert refusal("program", "engine")
    assert refusal("errors", "model")
    assert refusal("model", "kitchen")
    assert not refusal("engine", "numeric")
    assert [m for m, _ in imports(ast.parse("def f():\n    from simulator import cost"))] == [
        "simulator",
        "simulator.cost",
    ]


def test_files_are_small() -> None:
    lengths = {str(path.relative_to(PACKAGE)): len(path.read_text().splitlines()) for path in FILES}
    too_long = {name: n for name, n in lengths.items() if n > LONGEST and name not in LONGER}
    assert not too_long
    assert median(n for n in lengths.values() if n > 3) <= MEDIAN


def undocumented(tree: ast.Module) -> list[str]:
    """Public functions and classes of a module, and public methods of public classes, without a docstring."""
    found = []
    for node in tree.body:
        if not isinstance(node, ast.FunctionDef | ast.ClassDef) or node.name.startswith("_"):
            continue
        members = node.body if isinstance(node, ast.ClassDef) else []
        for item in (node, *members):
            if isinstance(item, ast.FunctionDef | ast.ClassDef) and not item.name.startswith("_"):
                overload = any(isinstance(d, ast.Name) and d.id == "overload" for d in item.decorator_list)
                if not ast.get_docstring(item) and not overload:
                    found.append(item.name)
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_public_names_are_documented(path: Path) -> None:
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree), "a module says what it is for"
    assert not undocumented(tree)


def test_the_oracle_for_docstrings_can_fail() -> None:
    assert undocumented(ast.parse("class A:\n    'a'\n    def b(self): ...\ndef _c(): ...\ndef d(): ...")) == ["b", "d"]
