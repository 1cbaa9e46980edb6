"The files that say what runs elsewhere, the parts that only some projects have, and what is installed for them"
import re, shutil, subprocess

import pytest
import yaml
from setuptools.config.pyprojecttoml import read_configuration

from conftest import BIN, ROOT
from mlcycle import answers

PIPELINE = ROOT/".gitlab-ci.yml"
FLOWS = sorted((ROOT/".github"/"workflows").glob("*.yml"))
TRACKED = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
PHASES = [{"development", "serving"}, {"development"}, set()]


def lint(name, *words):
    "Run a linter of the environment, or say that it is missing"
    if not (BIN/name).exists(): pytest.skip(f"{name} is not installed: pip install -e '.[dev]'")
    done = subprocess.run([BIN/name, *words], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif(not FLOWS, reason="no workflows")
def test_the_workflows_fit_their_schema(): lint("check-jsonschema", "--builtin-schema", "vendor.github-workflows", *FLOWS)


@pytest.mark.skipif(not FLOWS, reason="no workflows")
def test_the_workflows_are_safe(): lint("zizmor", "--offline", "--no-progress", *FLOWS)


def test_the_workflows_ask_for_little_and_pin_what_they_use():
    for f in FLOWS:
        flow = yaml.safe_load(f.read_text())
        assert flow["permissions"] == {"contents": "read"} and "pull_request_target" not in flow[True] and "concurrency" in flow
        for use in (s["uses"] for job in flow["jobs"].values() for s in job["steps"] if "uses" in s): assert len(use.partition("@")[2]) == 40, use
        if f.stem == "loop": assert flow["concurrency"] == {"group": "loop", "cancel-in-progress": False} and flow["jobs"]["turn"]["permissions"] == {"contents": "write"}


@pytest.mark.skipif(not PIPELINE.exists(), reason="no pipeline")
def test_the_pipeline_fits_its_schema(tmp_path):
    for name, words in {"whole": set(answers.WORDS), "less": set(answers.WORDS) - {"serving"}}.items(): (tmp_path/f"{name}.yml").write_text(answers.keep_parts(PIPELINE.read_text(), words))
    lint("check-jsonschema", "--builtin-schema", "vendor.gitlab-ci", *tmp_path.glob("*.yml"))


def test_every_part_of_the_project_begins_ends_and_is_known():
    for f in TRACKED:
        if f and (ROOT/f).is_file() and f.split("/")[0] not in answers.APART: answers.keep_parts((ROOT/f).read_text(encoding="utf-8", errors="replace"), set(), f)


@pytest.mark.parametrize("words", PHASES)
def test_what_is_installed_fits_together_without_a_phase_as_well(tmp_path, words):
    for f in ["README.md", "LICENSE"]: shutil.copy(ROOT/f, tmp_path)
    (tmp_path/"pyproject.toml").write_text(answers.keep_parts((ROOT/"pyproject.toml").read_text(), words | {"github"}))
    extras = read_configuration(tmp_path/"pyproject.toml", ignore_option_errors=True)["project"]["optional-dependencies"]
    text = "".join((ROOT/f).read_text() for f in ("Makefile", "README.md", "CONTRIBUTING.md"))
    asked = {e for found in re.findall(r"-e '\.\[([\w,]+)\]'", text) for e in found.split(",")}
    assert {"run", "dev"} <= asked <= {*extras}
    assert ("serve" in extras) <= ("serving" in words) and ("dask" in extras) <= ("development" in words)
    name = lambda d: re.match(r"[\w.-]+", d)[0]
    inside = {e: {name(d) for d in extras.get(e, [])} for e in ("serve", "batch", "monitor", "postgres")}
    assert all(wanted <= {name(d) for d in extras["run"]} for wanted in inside.values()), "what `make env` installs has all that the small extras have"
