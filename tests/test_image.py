"The container and its manifests, as far as that goes without a container: what would be in it is installed and served from"
import json, os, re, shlex, shutil, signal, socket, subprocess, sys, time, tomllib, urllib.error, urllib.request
from contextlib import contextmanager

import pytest
import yaml
from conftest import PACKAGE, ROOT, needs

from mlcycle.bundle import load_bundle, pack
from mlcycle.web import read_settings

pytestmark = needs("package")

MANIFESTS = sorted((ROOT/"deploy/kubernetes").glob("*.yaml"))
HEAVY = {"pandas", "scikit-learn", "lightgbm", "matplotlib", "pyarrow", "onnx", "skl2onnx", "dvc", "papermill", "nbdev", "scipy"}


def stages():
    "{stage of the Dockerfile: [(instruction, words)]}, and the stage each one is from"
    text = re.sub(r"\\\n", " ", "\n".join(l for l in (ROOT/"Dockerfile").read_text().splitlines() if not l.lstrip().startswith("#")))
    found, base, now = {}, {}, None
    for line in filter(str.strip, text.splitlines()):
        word, rest = line.split(None, 1)
        if word == "FROM": origin, _, now = rest.partition(" AS "); found[now], base[now] = [], origin
        elif now: found[now].append((word, rest))
    return found, base


def instruction(name, stage="registry"): return [rest for word, rest in stages()[0][stage] if word == name]
def healthcheck(): return json.loads(instruction("HEALTHCHECK")[0].split("CMD ")[1])


def manifest(kind): return next(m for f in MANIFESTS for m in yaml.safe_load_all(f.read_text()) if m["kind"] == kind)
def pod(): return manifest("Deployment")["spec"]["template"]["spec"]


# ---- the Dockerfile


def test_the_image_is_slim_and_has_no_rights():
    found, base = stages()
    assert list(found) == ["install", "registry", "bundle"] and base == {"install": "python:${PYTHON}", "registry": "python:${PYTHON}", "bundle": "registry"}
    assert re.search(r"^ARG PYTHON=3\.1[1-3]-slim", (ROOT/"Dockerfile").read_text(), re.M), "a version, slim, that the locked packages were tried with"
    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", instruction("USER")[0]), "by number: Kubernetes cannot tell otherwise that it is not root"
    assert instruction("COPY") == ["--from=install /opt/venv /opt/venv"] and not any("pip" in r for r in instruction("RUN"))
    assert not any("ADD" == word or "apt-get" in rest for s in found.values() for word, rest in s)


def test_the_image_installs_nothing_but_what_serves():
    asked = re.search(r"ARG EXTRAS=(\S+)", (ROOT/"Dockerfile").read_text())[1].split(",")
    extras = tomllib.loads((ROOT/"pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert asked[0] == "serve" and not set(asked) - {"serve", "s3", "postgres"} and not {re.match(r"[\w-]+", d)[0] for e in asked for d in extras[e]} & HEAVY
    assert "-c constraints.txt" in "".join(instruction("RUN", "install"))


def test_the_image_copies_what_is_there_and_the_context_holds_nothing_else():
    let_in = {l[1:] for l in (ROOT/".dockerignore").read_text().splitlines() if l.startswith("!")}
    outs = yaml.safe_load((ROOT/"dvc.yaml").read_text())["stages"]["package"]["outs"]
    copied = {w for s in stages()[0].values() for word, rest in s if word == "COPY" and "--from" not in rest for w in rest.split()[:-1] if not w.startswith("--")}
    assert copied == let_in and all((ROOT/c).exists() or c in outs for c in copied) and "*" in (ROOT/".dockerignore").read_text().splitlines()


def test_the_image_listens_with_keys_only():
    words = json.loads(instruction("ENTRYPOINT")[0])
    assert words[:2] == [PACKAGE, "serve"] and words[words.index("--host") + 1] == "0.0.0.0" and "--keys" in words
    assert "127.0.0.1:8000/health/ready" in healthcheck()[-1] and instruction("EXPOSE") == ["8000"] and json.loads(instruction("CMD", "bundle")[0]) == ["--bundle", "/srv/bundle.tar"]


def test_whoever_runs_it_may_read_what_is_in_it_and_what_is_mounted():
    "`keys make` writes a new file that its owner alone may read: mounted by itself it would be the old one, and the image's own user could not open it"
    assert instruction("COPY", "bundle")[0].startswith("--chmod=0444 ")
    command, = re.findall(r"^docker run .*", (ROOT/"deploy/README.md").read_text(), re.M)
    mounts = [w.split(":") for w in shlex.split(command) if ":/" in w]
    assert [m[1:] for m in mounts] == [["/etc/serve", "ro"], ["/var/lib/serve"]] and '--user "$(id -u):$(id -g)"' in command and "docker run" not in (ROOT/"Dockerfile").read_text()


# ---- Kubernetes


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda p: p.stem)
@pytest.mark.parametrize("version", ["1.29", "1.32", None], ids=lambda v: v or "newest")
def test_manifests_are_as_kubernetes_has_them(path, version):
    validator = pytest.importorskip("kubernetes_validate")
    for m in yaml.safe_load_all(path.read_text()): validator.validate(m, version or validator.latest_version(), strict=True)


def test_the_validator_can_complain():
    validator = pytest.importorskip("kubernetes_validate")
    for harm in [lambda m: m["spec"].update(replica=2), lambda m: pod_of(m)["containers"][0].update(ports=[{"containerPort": "8000x", "name": 3}]), lambda m: m["spec"].pop("selector")]:
        m = manifest("Deployment"); harm(m)
        with pytest.raises(validator.ValidationError): validator.validate(m, validator.latest_version(), strict=True)


def pod_of(m): return m["spec"]["template"]["spec"]


def test_manifests_fit_together_and_fit_the_image():
    deployment, service, scaler, budget, settings = (manifest(k) for k in ("Deployment", "Service", "HorizontalPodAutoscaler", "PodDisruptionBudget", "ConfigMap"))
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert labels == deployment["spec"]["selector"]["matchLabels"] == service["spec"]["selector"] == budget["spec"]["selector"]["matchLabels"]
    assert scaler["spec"]["scaleTargetRef"] == {k: deployment[k] for k in ("apiVersion", "kind")} | {"name": deployment["metadata"]["name"]} and "replicas" not in deployment["spec"]
    server, = pod()["containers"]
    ports = {p["name"]: p["containerPort"] for p in server["ports"]}
    assert service["spec"]["ports"][0]["targetPort"] in ports and str(ports["http"]) in instruction("EXPOSE")
    assert {server[p]["httpGet"]["port"] for p in ("startupProbe", "readinessProbe", "livenessProbe")} == {"http"}
    words, mounts = json.loads(instruction("ENTRYPOINT")[0]), {m["mountPath"]: m["name"] for m in server["volumeMounts"]}
    volumes = {v["name"]: v for v in pod()["volumes"]}
    given = {f"/etc/serve/{i['path']}" for s in volumes[mounts["/etc/serve"]]["projected"]["sources"] for kind in s.values() for i in kind["items"]}
    assert words[words.index("--keys") + 1] in given and server["args"] == ["--config", "/etc/serve/settings.yaml"] and server["args"][1] in given
    assert "ephemeral" in volumes[mounts[words[words.index("--state") + 1]]] and set(mounts.values()) == set(volumes)
    assert {e["valueFrom"]["configMapKeyRef"]["key"] for e in server["env"] if "configMapKeyRef" in e["valueFrom"]} <= set(settings["data"])


def test_pods_have_limits_and_no_rights():
    server, = pod()["containers"]
    assert f"{pod()['securityContext']['runAsUser']}:{pod()['securityContext']['runAsGroup']}" == instruction("USER")[0] and pod()["securityContext"]["runAsNonRoot"] is True
    assert server["securityContext"] == {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
    assert {"cpu", "memory"} <= set(server["resources"]["requests"]) and {"cpu", "memory"} <= set(server["resources"]["limits"]) and not server["image"].endswith((":latest", "/models"))
    assert not any(m["kind"] == "Secret" for f in MANIFESTS for m in yaml.safe_load_all(f.read_text())), "secrets are in no file"


def test_the_settings_in_the_config_map_are_settings(tmp_path):
    (tmp_path/"settings.yaml").write_text(manifest("ConfigMap")["data"]["settings.yaml"])
    s = read_settings(None, str(tmp_path/"settings.yaml"))
    pause = int(pod()["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][1])
    assert s.workers == 1 and pod()["terminationGracePeriodSeconds"] > pause + 2*(s.seconds + 5)


# ---- what would be inside


def call(port, path, key=None, body=None, method=None):
    headers = ({"authorization": f"Bearer {key}"} if key else {}) | ({"content-type": "application/json"} if body else {})
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", json.dumps(body).encode() if body else None, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=10) as r: return r.status, json.loads(r.read()), dict(r.headers)
    except urllib.error.HTTPError as e: return e.code, json.loads(e.read()), dict(e.headers)


def free_port():
    with socket.socket() as s: s.bind(("127.0.0.1", 0)); return s.getsockname()[1]


@contextmanager
def container(venv, folder, *words, **env):
    "The image's entrypoint, in a folder of its own, with no project and nothing of this environment around it"
    port, state = free_port(), folder/"state"
    state.mkdir(exist_ok=True)
    asked = {"/etc/serve/keys.json": str(folder/"keys.json"), "/var/lib/serve": str(state), "8000": str(port), PACKAGE: str(venv/"bin"/PACKAGE)}
    entry = [asked.get(w, w) for w in json.loads(instruction("ENTRYPOINT")[0])]
    clean = {"PATH": f"{venv}/bin:/usr/bin:/bin", "HOME": str(folder), "PYTHONUNBUFFERED": "1"} | env
    process = subprocess.Popen([*entry, *map(str, words)], cwd=state, env=clean, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True)
    try: yield process, port, clean
    finally:
        if process.poll() is None: os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def until_ready(process, port, seconds=20):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert process.poll() is None, process.stdout.read()
        try:
            if call(port, "/health/ready")[0] == 200: return
        except (OSError, ValueError): pass
        time.sleep(0.05)
    raise AssertionError("not ready")


def memory(pid):
    "MiB of a process and of those that it started"
    import psutil
    return {p.pid: p.memory_info().rss/2**20 for p in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]}


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    "The install stage of the Dockerfile, step by step: a wheel of what the context holds, and the serving extra alone"
    folder = tmp_path_factory.mktemp("image")
    for f in ["pyproject.toml", "settings.ini", "README.md", "LICENSE", "constraints.txt"]: shutil.copy(ROOT/f, folder)
    shutil.copytree(ROOT/PACKAGE, folder/PACKAGE, ignore=shutil.ignore_patterns("__pycache__"))
    run = lambda *words: subprocess.run([str(w) for w in words], cwd=folder, check=True, capture_output=True, text=True)
    run(sys.executable, "-m", "venv", folder/"venv")
    run(folder/"venv/bin/pip", "wheel", "--no-deps", "--disable-pip-version-check", "-c", "constraints.txt", "-w", folder/"dist", ".")
    wheel, = (folder/"dist").glob("*.whl")
    run(folder/"venv/bin/pip", "install", "--disable-pip-version-check", "-c", "constraints.txt", f"{wheel}[serve]")
    installed = {d["name"].lower() for d in json.loads(run(folder/"venv/bin/pip", "list", "--format", "json", "--disable-pip-version-check").stdout)}
    run(folder/"venv/bin/pip", "uninstall", "-y", "--disable-pip-version-check", "pip", "setuptools")
    return folder/"venv", installed


@pytest.fixture(scope="module")
def files(image, tmp_path_factory):
    "A bundle that may be served to others, one that may not, and a key"
    from test_bundle import LAUNCH, fit, write
    folder = tmp_path_factory.mktemp("files")
    for name, status in (("good", "launch"), ("draft", "draft")):
        write(folder/name, fit(), charter=LAUNCH | {"status": status})
        pack(folder/name, folder/f"{name}.tar")
    made = subprocess.run([image[0]/"bin"/PACKAGE, "keys", "make", "shop", "--keys", folder/"keys.json"], cwd=folder, capture_output=True, text=True, env={"PATH": "/usr/bin:/bin", "HOME": str(folder)})
    assert made.returncode == 0, made.stderr
    return folder, max(re.findall(r"[\w-]{30,}", made.stdout), key=len)


@pytest.mark.chains
def test_the_image_holds_no_pandas_and_no_scikit_learn(image):
    venv, installed = image
    assert installed & HEAVY == set() and {"onnxruntime", "fastapi", "uvicorn", "numpy", PACKAGE} <= installed
    code = "import importlib.util as u, sys; sys.exit(any(u.find_spec(m) for m in ('pandas', 'sklearn', 'matplotlib', 'pyarrow', 'pip', 'setuptools')))"
    assert subprocess.run([venv/"bin/python", "-c", code]).returncode == 0


@pytest.mark.chains
def test_the_image_serves_outside_a_project(image, files):
    (venv, _), (folder, key) = image, files
    row = {"logins": 3, "price": None, "plan": "pro", "phone": "0301"}
    start = time.monotonic()
    with container(venv, folder, "--bundle", folder/"good.tar") as (process, port, env):
        until_ready(process, port)
        status, body, headers = call(port, "/v1/models/tiny:predict", key, {"rows": [row]})
        took = time.monotonic() - start
        assert status == 200 and body["digest"] == load_bundle(folder/"good").digest and headers["x-logged"] == "true", body
        assert call(port, "/v1/models/tiny:predict", None, {"rows": [row]})[0] == 401 and call(port, "/v1/models/tiny:predict", key, {"rows": [{"logins": "x"}]})[0] == 422
        check = [w.replace("8000", str(port)).replace("python", str(venv/"bin/python"), 1) if w == "python" else w.replace("8000", str(port)) for w in healthcheck()]
        assert subprocess.run(check, env=env).returncode == 0
        print(f"first answer after {took:.2f} s; MiB {sorted(memory(process.pid).values())}")
        assert max(memory(process.pid).values()) < 120
        process.send_signal(signal.SIGTERM)
        assert process.wait(40) == 0
        assert subprocess.run(check, env=env, stderr=subprocess.DEVNULL).returncode != 0
    assert any((folder/"state").iterdir()) and key not in "".join(p.read_text(errors="replace") for p in folder.rglob("*") if p.is_file())


@pytest.mark.chains
@pytest.mark.parametrize("words, said", [(["--bundle", "draft.tar"], "is a draft"), (["--bundle", "nowhere.tar"], "No bundle at"), ([], "No bundle was named")])
def test_the_image_refuses_in_words(image, files, words, said):
    (venv, _), (folder, _) = image, files
    with container(venv, folder, *(str(folder/w) if w.endswith(".tar") else w for w in words)) as (process, _, _):
        out = process.communicate(timeout=30)[0]
    assert process.returncode == 2 and said in out and "Traceback" not in out, out


@pytest.mark.chains
def test_the_image_takes_a_registry(image, files):
    (venv, _), (folder, key) = image, files
    run = lambda *words: subprocess.run([venv/"bin"/PACKAGE, "registry", *words, "--registry", folder/"registry"], cwd=folder, capture_output=True, text=True, env={"PATH": "/usr/bin:/bin", "HOME": str(folder), "USER": "a"})
    for words in (["add", folder/"good.tar", "--why", "the first"], ["promote", "tiny", "0.1.0", "--why", "it is good", "--no-git"]):
        r = run(*words)
        if words[0] == "promote" and r.returncode: r = run("promote", "tiny", json.loads(run("show", "tiny", "--json").stdout)["versions"][0]["version"], "--why", "it is good", "--no-git")
        assert r.returncode == 0, r.stdout + r.stderr
    with container(venv, folder, MODEL_REGISTRY=str(folder/"registry")) as (process, port, _):
        until_ready(process, port)
        status, body, _ = call(port, "/v1/models/tiny:predict", key, {"rows": [{"logins": 3, "price": 2, "plan": "pro", "phone": "0301"}]})
        assert status == 200 and re.fullmatch(r"\d+\.\d+\.\d+", body["version"])
