"""What is installed: the wheel's files, copies that run from anywhere, a download without git, a path with spaces."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest
from conftest import ADAPTERS, SUITE

ROOT = SUITE.parent
PARTS = ("src", "reference", "backends", "conformance")
BESIDE = ("README.md", "LICENSE", "pyproject.toml")
ONE = ("--claim", "normalize.centered", "--dtype", "float32", "--profile", "quick")
BIASED = ("--claim", "running.sample-variance", "--dtype", "float32", "--profile", "quick")


def without_python_path():
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def run(*command, folder, **more):
    """A finished process; PYTHONPATH leads nowhere but to what is given."""
    environment = {**without_python_path(), **more}
    return subprocess.run(
        [*map(str, command)], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def download(tmp_path_factory):
    """The files of the checkout as a download holds them: without git, in a path with spaces."""
    folder = tmp_path_factory.mktemp("down loads") / "normspec main"
    folder.mkdir()
    leave = shutil.ignore_patterns("__pycache__", "*.egg-info", "results")
    for part in PARTS:
        shutil.copytree(ROOT / part, folder / part, ignore=leave)
    for name in BESIDE:
        shutil.copy(ROOT / name, folder)
    return folder


def modules(folder):
    """The files of the package as they must lie in an installed copy, from where they lie in the checkout."""
    kept = (".py", ".ini", ".json", ".jinja", ".toml", ".typed")
    for part in PARTS:
        place = folder / part / "normspec" if part == "src" else folder / part
        for path in place.rglob("*"):
            if path.is_file() and path.suffix in kept and "results" not in path.relative_to(place).parts:
                inside = path.relative_to(place)
                yield Path("normspec", inside) if part == "src" else Path("normspec", part, inside)


@pytest.fixture(scope="module")
def wheel(download, tmp_path_factory):
    built = tmp_path_factory.mktemp("wheel")
    pip = (sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "--no-index")
    done = run(*pip, "-w", built, download, folder=built)
    assert done.returncode == 0, done.stderr
    (path,) = built.glob("normspec-*.whl")
    return path


@pytest.fixture(scope="module")
def site(wheel, tmp_path_factory):
    """A folder with the installed package: a wheel without compiled code is installed by unpacking it."""
    folder = tmp_path_factory.mktemp("site packages")
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(folder)
    return folder


def test_the_checkout_has_no_links(download):
    assert [path for path in download.rglob("*") if path.is_symlink()] == []


def test_the_wheel_has_every_file_of_the_package_and_no_other(wheel):
    names = {Path(name) for name in zipfile.ZipFile(wheel).namelist()}
    packaged = {name for name in names if name.parts[0] == "normspec"}
    assert packaged == set(modules(ROOT))
    assert {name.parts[0].rpartition(".")[2] for name in names - packaged} == {"dist-info"}


def test_an_installed_copy_runs_from_anywhere(site, tmp_path):
    where = run(sys.executable, "-c", "import normspec; print(normspec.__file__)", folder=tmp_path, PYTHONPATH=site)
    assert where.stdout.startswith(str(site))
    shutil.copy(ADAPTERS / "plain.py", tmp_path / "mine.py")
    arguments = ("--backend", "mine.py:Plain", *ONE, "-n", "2")
    done = run(sys.executable, "-m", "normspec", *arguments, folder=tmp_path, PYTHONPATH=site)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout


def test_an_installed_copy_inside_the_users_folder_names_its_own_command(site, tmp_path):
    shutil.copytree(site, tmp_path / ".venv")
    (tmp_path / "mine.py").write_text((ADAPTERS / "plain.py").read_text().replace("ddof = 1", "ddof = 0"))
    arguments = ("--backend", "mine.py:Plain", *BIASED)
    done = run(sys.executable, "-m", "normspec", *arguments, folder=tmp_path, PYTHONPATH=tmp_path / ".venv")
    assert done.returncode == 1, done.stderr
    assert "  again    normspec --backend mine.py:Plain " in done.stdout


def test_an_editable_install_from_a_download_in_a_path_with_spaces(download, tmp_path_factory):
    """In an environment of its own that finds our dependencies, but not our own installed copy."""
    folder = tmp_path_factory.mktemp("an environment")
    venv.create(folder, symlinks=os.name != "nt")
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    own = Path(sysconfig.get_path("purelib", vars={"base": str(folder)}))
    (own / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    pip = (
        python,
        "-m",
        "pip",
        "install",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
        "--ignore-installed",
    )
    done = run(*pip, "-e", download, folder=folder)
    assert done.returncode == 0, done.stderr
    where = run(python, "-c", "from normspec.conformance import command as c; print(c.__file__)", folder=folder)
    assert Path(where.stdout.strip()) == download / "conformance" / "command.py"
    assert run(python.with_name("normspec"), "--version", folder=folder).stdout.startswith("normspec ")
    for command in (("-m", "normspec"), ("-m", "pytest", download / "conformance", "-p", "no:cacheprovider")):
        done = run(python, *command, "--backend", "numpy", *ONE, folder=folder)
        assert done.returncode == 0, done.stdout + done.stderr
