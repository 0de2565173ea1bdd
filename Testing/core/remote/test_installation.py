"""The wheel that travels, and the environment that it is installed into."""

import base64
import hashlib
import io
import shutil
import subprocess
import sys
import sysconfig
import zipfile

import pytest
import ssh_support
import tomllib
from ssh_support import NAME, ROOT, needs_sshd

from ugmcl_core.remote import installation


def test_the_wheel_is_the_package_and_needs_what_pyproject_says():
    name, content = installation.wheel()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert list(installation.REQUIREMENTS) == project["dependencies"]
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        names = set(archive.namelist())
        sources = {
            p.relative_to(ROOT).as_posix()
            for p in (ROOT / "ugmcl_core").rglob("*.py")
            if "bundled" not in p.parts
        }
        info = f"ugmcl-{project['version']}.dist-info"
        assert sources == {n for n in names if n.endswith(".py")}
        record = archive.read(f"{info}/RECORD").decode().splitlines()
        assert {line.split(",")[0] for line in record} == names
        for line in record[:20]:
            file, digest, size = line.split(",")
            made = hashlib.sha256(archive.read(file)).digest()
            assert digest == "sha256=" + base64.urlsafe_b64encode(made).rstrip(b"=").decode()
            assert int(size) == len(archive.read(file))
    assert name == f"ugmcl-{project['version']}-py3-none-any.whl"


@needs_sshd
@pytest.mark.slow
def test_install_there_and_update(tmp_path, monkeypatch):
    """Without a network: the Python there knows the packages by PYTHONPATH."""
    place = tmp_path / "server"
    place.mkdir()
    with ssh_support.serving(place) as sshd:
        packages = sysconfig.get_path("purelib")
        sshd.set_there(f"PYTHONPATH={ROOT}", f"PYTHONPATH={packages}")
        shutil.rmtree(sshd.home / "environment")
        monkeypatch.setenv("UGMCL_SSH", sshd.client)

        def ugmcl(*words: str) -> subprocess.CompletedProcess[str]:
            command = [sys.executable, "-m", "ugmcl_core", "computers", *words]
            return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200)

        tested = ugmcl("test", NAME)
        assert tested.returncode == 1
        assert "ugmcl is not installed on" in tested.stdout
        assert "there is Python 3." in tested.stdout
        asked = ugmcl("install", NAME)
        assert asked.returncode == 2 and "give --yes" in asked.stderr
        for _ in range(2):  # the second updates
            made = ugmcl("install", NAME, "--yes", "--pip=--no-index")
            assert made.returncode == 0, made.stdout + made.stderr
            assert "PyTorch" in made.stdout
        assert (sshd.home / "environment" / "bin" / "ugmcl").is_file()
        assert not list(sshd.home.glob("*.whl"))
        assert ugmcl("test", NAME).returncode == 0
        failed = ugmcl("install", NAME, "--yes", "--pip=--no-such-option")
        assert failed.returncode == 2 and len(failed.stderr.strip().splitlines()) == 1
