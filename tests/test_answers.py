"What a project was asked when it was made, carried out: parts, licence, author, Python, CI, remote. Of the template only: a made project asks no more"
import configparser, http.server, json, re, shutil, subprocess, sys, threading, tomllib

import pytest
import yaml

from conftest import BIN, ROOT, copy_tracked
from mlcycle import answers
from mlcycle.core import ProjectError

TOUCHED = ["LICENSE", "README.md", "CHANGELOG.md", "Makefile", "Dockerfile", "constraints.txt", "pyproject.toml", "settings.ini", ".gitlab-ci.yml", ".dvc/config", ".ci/run", ".github/workflows/test.yml"]
PIPELINE = ROOT/".gitlab-ci.yml"


def files(root): return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file() and ".git" not in p.parts}


@pytest.fixture
def house(tmp_path):
    "Copies of the files that answers change"
    for f in TOUCHED:
        (tmp_path/f).parent.mkdir(parents=True, exist_ok=True); shutil.copy(ROOT/f, tmp_path/f)
    return tmp_path


def ini(root):
    "settings.ini as nbdev reads it"
    config = configparser.ConfigParser(); config.read(root/"settings.ini", encoding="utf-8")
    return config["DEFAULT"]


def project(root): return tomllib.loads((root/"pyproject.toml").read_text(encoding="utf-8"))["project"]


# ---- parts

def mark(word, text="x\n", sign="#"): return f"{sign} only: {word}{' -->' if sign != '#' else ''}\n{text}{sign} end only{' -->' if sign != '#' else ''}\n"


@pytest.mark.parametrize("sign", ["#", "<!--"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_parts_stay_byte_for_byte_or_go(sign, newline):
    text = ("a\n\n" + mark("serving", "b\n\nc\n", sign) + "\n" + mark("example serving", "d\n", sign) + "\n    " + mark("github", "e\n", sign).replace("\n", "\n    ") + "\nz \x0b\u2028no end").replace("\n", newline)
    assert answers.keep_parts(text, {"serving", "example", "github"}) == text
    only = answers.keep_parts(text, {"serving", "github"})
    assert [w in only.split() for w in "abcdez"] == [True, True, True, False, True, True] and answers.keep_parts(only, {"serving", "github"}) == only
    assert all(line in text.split(newline) for line in only.split(newline))
    assert answers.keep_parts(text, set()).split() == "a z no end".split()


def test_paragraphs_stay_one_blank_line_apart():
    assert answers.keep_parts(mark("template") + "\nfirst\n\n" + mark("serving") + "\n" + mark("gitlab") + "\nlast\n\n" + mark("example"), set()) == "first\n\nlast\n"
    assert answers.keep_parts("list:\n" + mark("serving") + "\nmore\n", set()) == "list:\n\nmore\n" # there was one blank line, and there is


@pytest.mark.parametrize("text, said", [
    ("a\n" + mark("serving").removesuffix("# end only\n"), "f.md, line 2, begins a part that never ends"), ("a\n# end only\n", "f.md, line 2, ends a part that never began"),
    (mark("serving", mark("github")), "line 2, begins a part inside"), (mark("servin"), "did you mean `serving`"), (mark("Serving"), "did you mean `serving`"), (mark(""), "A part begins with"),
    (mark("serving").replace("# end", "<!-- end").replace("y\n", "y -->\n"), "ends a part that never began"), (mark("serving").replace("# only", "#only"), "A part begins with"),
    (mark("serving", sign="<!--").replace("serving -->", "serving-->"), "A part begins with"), (mark("serving").replace("# end", "# end of"), "never ends")])
def test_a_wrong_marker_is_told_with_its_line(text, said):
    with pytest.raises(ProjectError, match=re.escape(said)): answers.keep_parts(text, set(answers.WORDS), "f.md")


# ---- all answers

def test_default_answers_change_nothing(tmp_path):
    copy_tracked(tmp_path)
    before = files(tmp_path)
    answers.apply(tmp_path, {}, answers.words_of({}))
    assert {f: raw for f, raw in before.items() if f != ".gitlab-ci.yml"} == files(tmp_path)


@pytest.mark.parametrize("wrong", [{"author": "A\nb"}, {"license": "GPL"}, {"python": "3.9"}, {"ci": "jenkins"}, {"remote": "ssh://me:pw@host/x"}, {"stages": "serving"}, {"licence": "MIT"}])
def test_a_wrong_answer_is_refused_before_anything_changes(house, wrong):
    before = files(house)
    with pytest.raises(ProjectError): answers.apply(house, {"name": "churn", "license": "MIT"} | wrong, set())
    (house/"Makefile").write_text("# only: serving\n"); before["Makefile"] = (house/"Makefile").read_bytes()
    with pytest.raises(ProjectError, match="Makefile, line 1"): answers.apply(house, {"name": "churn", "license": "MIT"}, set())
    assert files(house) == before


def test_all_at_once(house):
    given = {"name": "churn", "author": "Ann 50% \"A\" Öz <ann@example.com>", "license": "MIT", "python": "3.13", "remote": "s3://bucket/dvc", "stages": "discovery", "ci": "gitlab", "data": "/home/ann/customers.csv", "target": "left"}
    answers.apply(house, given, answers.words_of(given))
    readme = (house/"README.md").read_text()
    assert readme.startswith("# churn\n\nPredicts `left` from `customers.csv`") and "/home/ann" not in readme and "Licence: MIT." in readme
    assert (house/"CHANGELOG.md").read_text().startswith("# Changelog") and "0.1.0" in (house/"CHANGELOG.md").read_text() and not (house/".github").exists()
    assert ini(house)["author"] == project(house)["authors"][0]["name"] == 'Ann 50% "A" Öz' and "(c) 2026 Ann 50% \"A\" Öz\n" in (house/"LICENSE").read_text()


# ---- licence, author

@pytest.mark.parametrize("license, spdx, says", [("MIT", "MIT", "Permission is hereby granted"), ("BSD-3-Clause", "BSD-3-Clause", "3. Neither the name"), ("proprietary", "LicenseRef-Proprietary", "All rights reserved.")])
def test_a_licence_is_said_everywhere(house, license, spdx, says):
    from setuptools.config.pyprojecttoml import read_configuration
    answers.set_license(house, license, "Zoë {year} \\1 <z@example.com>")
    text = (house/"LICENSE").read_text(encoding="utf-8")
    assert says in text and re.search(r"\(c\) 20\d\d,? Zoë \{year\} \\1\n", text) and "z@" not in text
    assert read_configuration(house/"pyproject.toml")["project"]["license"] == spdx and (house/project(house)["license-files"][0]).exists()
    assert ini(house)["license"] == {"MIT": "mit", "BSD-3-Clause": "bsd3"}.get(license, license)
    assert re.findall(r"Licence: (.*)\.", (house/"README.md").read_text()) == [license if license != "proprietary" else "all rights reserved"]


@pytest.mark.parametrize("name, mail", [("Ann", "ann@example.com"), ("100% \"Data\" & 'Co'", ""), ("O'Brien \\ Sons \\1", "a+b@ex-ample.org"), ("许小明", "x@y.example"), ("= [x] # ; %(repo)s", "")])
def test_any_name_survives_in_each_format(house, name, mail):
    from setuptools.config.pyprojecttoml import read_configuration
    answers.set_author(house, f"{name} <{mail}>" if mail else name)
    assert ini(house)["author"] == name and ini(house)["author_email"] == mail and ini(house)["copyright"].endswith(f"onwards, {name}")
    assert read_configuration(house/"pyproject.toml")["project"]["authors"] == [{"name": name} | ({"email": mail} if mail else {})]
    before = files(house)
    answers.set_author(house, f"{name} <{mail}>" if mail else name)
    assert files(house) == before
    answers.set_author(house, "Someone Else <else@example.com>")
    assert project(house)["authors"] == [{"name": "Someone Else", "email": "else@example.com"}]


@pytest.mark.parametrize("odd", ["A\nname = evil", "A <a@b.c>\n", "A <a b@c.d>", "A <\"a\"@c.d>", "A <a@b.c> <d@e.f>", "a@b.c", "A\x00", "A\u2028b", "A <>", " ", "A"*201, "A <é@b.c>"])
def test_a_name_that_breaks_a_file_is_refused(house, odd):
    before = files(house)
    with pytest.raises(ProjectError, match="Name <name@example.com>"): answers.set_author(house, odd)
    assert files(house) == before


# ---- Python

@pytest.mark.parametrize("version", ["3.12", "3.13"])
def test_the_least_python_is_the_same_everywhere(house, version):
    answers.set_python(house, version)
    assert ini(house)["min_python"] == version and project(house)["requires-python"] == f">={version}"
    later = answers.PYTHONS[answers.PYTHONS.index(version):]
    for f in answers.CI_PYTHON: assert re.findall(r'\["3.*\]', (house/f).read_text()) == [json.dumps(later)]
    assert f"ARG PYTHON={version}-slim" in (house/"Dockerfile").read_text()
    make = (house/"Makefile").read_text()
    assert re.findall(r"python(3\.\d+)", re.search("for p in .*", make)[0]) == later[::-1] and make.count(f"(3, {version[2:]})") == 2
    earlier = [v for v in answers.PYTHONS if v not in later]
    left = [line for f in ["Makefile", "README.md", ".ci/run"] for line in (house/f).read_text().splitlines() if any(re.search(rf"{re.escape(v)}\b", line) for v in earlier)]
    assert [line for line in left if "were tried with" not in line] == [] # what was tried stays true
    done = subprocess.run(["make", "env", "PYTHON=no-such-python"], cwd=house, capture_output=True, text=True)
    assert f"{version} or later is needed" in done.stdout and done.returncode


# ---- DVC's remote

@pytest.mark.parametrize("url", ["s3://bucket/dvc", "gs://bucket", "azure://container/path", "ssh://me@host:2222/data", "/mnt/a b, c#d%s", "https://host/x?y=1"])
def test_dvc_finds_the_remote(house, url):
    from dvc.config import Config
    before = Config(str(house/".dvc"))
    answers.set_remote(house, url)
    now = Config(str(house/".dvc"))
    assert now["remote"]["storage"]["url"] == url and now["core"]["remote"] == "storage" and now["core"]["analytics"] is False
    assert before["remote"] == {} and {**before["core"], "remote": "storage"} == dict(now["core"])
    text = (house/".dvc"/"config").read_text()
    with now.edit("repo") as same: same["core"]["autostage"] = "false"
    assert (house/".dvc"/"config").read_text() == text # as DVC itself writes it
    with pytest.raises(ProjectError, match="names a remote already"): answers.set_remote(house, "s3://other/x")


@pytest.mark.parametrize("odd", ["ssh://me:hunter2@host/x", "https://:hunter2@host/x", "s3:///hunter2", "s3://", "a\nurl = b", "s5://bucket", "x'y", "%(x)s", " ", "a\x00"])
def test_a_remote_that_would_leak_or_break_is_refused(house, odd):
    before = files(house)
    with pytest.raises(ProjectError) as e: answers.set_remote(house, odd)
    assert files(house) == before and ("@" not in odd or "hunter2" not in str(e.value))


def test_a_folder_becomes_absolute_and_a_scheme_names_its_plugin(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert answers.check_remote("../store") == str(tmp_path.parent/"store") and answers.check_remote(answers.check_remote("store")) == str(tmp_path/"store")
    assert [answers.remote_needs(u) for u in ("s3://b", "webdavs://h/x", "https://h", "/mnt/x")] == ["dvc[s3]", "dvc[webdav]", "", ""]


# ---- CI

@pytest.mark.parametrize("ci, left", [("github", [".github"]), ("gitlab", [".gitlab-ci.yml"]), ("none", [])])
def test_one_ci_is_left(tmp_path, ci, left):
    for folder in (".github/workflows", ".ci"): (tmp_path/folder).mkdir(parents=True); (tmp_path/folder/"a").touch()
    (tmp_path/".gitlab-ci.yml").touch()
    answers.set_ci(tmp_path, ci); answers.set_ci(tmp_path, ci)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([".ci", *left])


def test_without_serving_the_pipeline_has_no_loop():
    less = answers.keep_parts(PIPELINE.read_text(), {"development", "gitlab"})
    flow = yaml.safe_load(less)
    assert "loop" not in flow and flow["variables"]["RUN"]["options"] == ["tests", "chains"] and "MODEL_REGISTRY" not in less and "LOOP_TOKEN" not in less


def test_the_pipeline_tries_each_python_and_never_shows_a_secret():
    flow = yaml.safe_load(PIPELINE.read_text())
    least = project(ROOT)["requires-python"].removeprefix(">=")
    assert flow["test"]["parallel"]["matrix"] == [{"VERSION": answers.PYTHONS[answers.PYTHONS.index(least):]}]
    for name, job in flow.items():
        lines = job.get("script", []) if isinstance(job, dict) else []
        assert subprocess.run(["bash", "-n"], input="\n".join(lines), text=True, capture_output=True).stderr == "", name
        for line in lines:
            assert not re.search(r"set -x|printenv|\benv\s*$|https?://[^/\s\"]*:\$|echo[^|]*\$\w*(TOKEN|SECRET|KEY)(?!.*credential)", line.replace('echo "password=$LOOP_TOKEN"', "")), f"{name}: {line}"
    assert flow["loop"]["resource_group"] == "loop" and flow["loop"]["interruptible"] is False and flow["loop"]["allow_failure"] == {"exit_codes": [4]}


def test_the_report_is_one_comment_written_anew(tmp_path):
    script = next(s for s in yaml.safe_load(PIPELINE.read_text())["report"]["script"] if s.startswith("python - "))
    notes, asked = [{"id": 5, "body": "somebody's"}], []

    class Api(http.server.BaseHTTPRequestHandler):
        def log_message(self, *_): pass
        def answer(self):
            asked.append((self.command, self.path.partition("?")[0], self.headers["PRIVATE-TOKEN"]))
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"]))) if self.command != "GET" else None
            if self.command == "POST": notes.append({"id": 7, **body})
            if self.command == "PUT": notes[-1] |= body
            self.send_response(200); self.end_headers(); self.wfile.write(json.dumps(notes).encode())
        do_GET = do_POST = do_PUT = answer

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Api)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    env = {"PATH": f"{BIN}:/usr/bin:/bin", "CI_API_V4_URL": f"http://127.0.0.1:{server.server_port}", "CI_PROJECT_ID": "1", "CI_MERGE_REQUEST_IID": "2"}
    for text, more in [("# never", {}), ("# one", {"REPORT_TOKEN": "hush"}), ("# two", {"REPORT_TOKEN": "hush"})]:
        (tmp_path/"report.md").write_text(text)
        done = subprocess.run(["bash", "-c", script], cwd=tmp_path, env=env | more, capture_output=True, text=True)
        assert done.returncode == 0 and "hush" not in done.stdout + done.stderr, done.stderr
    server.shutdown(); server.server_close()
    where = "/projects/1/merge_requests/2/notes"
    assert asked == [("GET", where, "hush"), ("POST", where, "hush"), ("GET", where, "hush"), ("PUT", f"{where}/7", "hush")]
    assert [n["body"] for n in notes] == ["somebody's", "<!-- report -->\n# two"]


def test_the_token_reaches_git_by_no_command_line():
    push = next(s for s in yaml.safe_load(PIPELINE.read_text())["loop"]["script"] if "push --atomic" in s)
    asked = push[:push.index("push --atomic")].replace("\\\n", " ") + "credential fill"
    done = subprocess.run(["bash", "-c", asked], input="protocol=https\nhost=git.example\nusername=oauth2\n\n", env={"PATH": "/usr/bin:/bin", "LOOP_TOKEN": "hush"}, capture_output=True, text=True)
    assert "password=hush" in done.stdout.splitlines() and "oauth2@$CI_SERVER_FQDN" in push and "LOOP_TOKEN" not in push.partition("push --atomic")[2]
