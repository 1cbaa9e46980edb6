"""The warm engine: failures are told, nothing is lost or left behind, and no process outlives its `dvc`."""
import json, os, re, signal, subprocess, time
from pathlib import Path

import psutil
import pytest

from conftest import BIN, PACKAGE
from mlcycle import run


def processes(house):
    "Processes that work in a house's folder"
    found = []
    for p in psutil.process_iter():
        try:
            if Path(p.cwd()).is_relative_to(house.root) and p.status() != psutil.STATUS_ZOMBIE: found.append(p)
        except (psutil.Error, OSError): pass
    return found


def gone(house, seconds=10):
    "Wait until nobody works in a house's folder"
    for _ in range(int(seconds*10)):
        if not processes(house): return True
        time.sleep(.1)
    return [p.cmdline() for p in processes(house)]


def reaped(house):
    "Whether the system has forgotten the processes that DVC's own lock names; an init may take its time with orphans"
    path = house.root/".dvc/tmp/rwlock"
    return not path.exists() or not any(psutil.pid_exists(int(p)) for p in re.findall(r'"pid": (\d+)', path.read_text()))


def until(condition, seconds=30):
    for _ in range(int(seconds*20)):
        if condition(): return True
        time.sleep(.05)
    raise AssertionError("it did not come to pass")


def locked(house, verb):
    "Whether a stage's lock is held: another process tries to open the stage"
    code = f"from {PACKAGE}.core import Stage; Stage({verb!r})"
    return "Busy" in subprocess.run([str(BIN/"python"), "-c", code], cwd=house.root, env=house.env, capture_output=True, text=True).stderr


def test_a_failing_cell_is_told_and_the_last_good_results_come_back(toy):
    toy.edit("params.yaml", "beta: {step: 3}", "beta: {step: 4, fail: true}")
    out = toy.sh("dvc", "repro", code=255)
    for piece in ["Stage `beta` failed: AssertionError: told to fail", "nbs/22_beta.ipynb, cell 9, line 3: assert not p.fail", "step: 4, fail: true", "data/runs/22_beta.ipynb", f"`{PACKAGE} restore beta`"]: assert piece in out
    executed = toy.json("data/runs/22_beta.ipynb")
    assert any(o["output_type"] == "error" for c in executed["cells"] for o in c.get("outputs", []))
    assert not (toy.root/"data/beta/out.json").exists()  # DVC removed it, and nothing half-written took its place
    toy.sh(PACKAGE, "restore", "beta")
    assert toy.json("data/beta/out.json")["value"] == 3
    out = toy.sh(PACKAGE, "run", code=1)  # `run` brings it back by itself
    assert "data/beta/out.json is back" in out and toy.json("data/beta/out.json")["value"] == 3
    assert gone(toy) is True


def test_a_wrong_parameter_stops_before_any_cell_and_names_the_nearest(toy):
    toy.edit("params.yaml", "alpha: {step: 2}", "alpha: {stepp: 2}")
    out = toy.sh(PACKAGE, "run", code=2)
    assert "`alpha.step` is missing" in out and "did you mean `step`" in out
    assert toy.json("data/alpha/out.json") == {"value": 3}
    toy.edit("params.yaml", "alpha: {stepp: 2}", "alpha: {step: two}")
    assert "`alpha.step` is 'two'" in toy.sh(PACKAGE, "run", code=2)


def test_a_broken_params_file_is_said_once(toy):
    toy.write("params.yaml", "alpha: {step: 2\nbeta: [")
    for command in (["run"], ["status"], ["check"]):
        out = toy.sh(PACKAGE, *command, code=2)
        assert out.count("not readable as YAML") == 1 and "Traceback" not in out


def test_a_missing_input_is_named(toy):
    (toy.root/"data/first/out.json").unlink()
    out = toy.sh(PACKAGE, "stage", "alpha", code=2)
    assert "data/first/out.json" in out and "dvc repro alpha" in out and "dvc pull" in out


def test_an_unknown_stage_names_the_nearest(toy):
    assert "did you mean `alpha`" in toy.sh(PACKAGE, "run", "alfa", code=2)
    assert "did you mean `alpha`" in toy.sh(PACKAGE, "stage", "alphaa", code=2)


def test_what_a_run_took_is_recorded(toy):
    toy.repro("--force", "first")
    head, *rows = toy.text("data/runs/runs.csv").splitlines()
    assert head == "stage,started,status,engine,wall_s,cpu_s,peak_mib,rows_in,rows_out" and rows[-1].startswith("first,")
    run = toy.json("data/runs/11_first.ipynb")["metadata"]["run"]
    assert run["status"] == "done" and run["wall_s"] > 0 and run["peak_mib"] > 10
    assert run["revision"] == toy.sh("git", "rev-parse", "HEAD").strip()
    assert "runs.csv" not in toy.sh("git", "status", "--short", "--untracked-files=all")


def test_the_executed_copy_shows_the_values_and_skips_the_lessons(toy):
    cells = toy.json("data/runs/21_alpha.ipynb")["cells"]
    injected = next("".join(c["source"]) for c in cells if "injected-parameters" in c["metadata"].get("tags", []))
    assert '"step": 2' in injected
    assert "skip-execution" in next(c for c in cells if "# a lesson" in "".join(c["source"]))["metadata"]["tags"]


def test_both_engines_give_the_same_bytes(toy):
    before = toy.text("data/alpha/out.json")
    toy.env["STAGE_ENGINE"] = "nbclient"
    assert toy.repro("--force", "--single-item", "alpha") == ["alpha"]
    assert toy.text("data/alpha/out.json") == before
    assert toy.text("data/runs/runs.csv").splitlines()[-1].split(",")[3] == "nbclient"


def test_papermill_finds_the_engine(toy, tmp_path):
    toy.sh("papermill", "nbs/11_first.ipynb", tmp_path/"out.ipynb", "--engine", "warm", "-y", "params: {step: 6}")
    assert toy.json("data/first/out.json") == {"value": 6}


def test_run_all_in_a_kernel_leaves_the_same_bytes(toy):
    "What JupyterLab's Run All does: every cell, lessons too, in a kernel that starts in nbs/"
    toy.env["PYTHONPATH"] = str(toy.root)  # the installed package is that of another checkout here
    toy.sh("jupyter", "nbconvert", "--to", "notebook", "--execute", "--inplace", "nbs/21_alpha.ipynb")
    assert toy.json("nbs/21_alpha.ipynb")["cells"][-1]["outputs"]
    assert toy.repro() == ["export"]


def test_a_notebook_and_a_run_do_not_write_into_each_other(toy):
    work = f"from {PACKAGE}.core import Stage; s = Stage('beta'); s.write({{'value': 7}}, 'data/beta/out.json'); print('open', flush=True); input(); s.close()"
    notebook = subprocess.Popen([BIN/"python", "-c", work], cwd=toy.root, env=toy.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert notebook.stdout.readline().strip() == "open"
        out = toy.sh("dvc", "repro", "--force", "--single-item", "beta", code=255)
        assert f"Stage `beta` is open in process {notebook.pid}" in out and "shut its kernel down" in out
        toy.sh(PACKAGE, "stage", "beta", code=1)
        notebook.communicate("\n", timeout=10)
    finally: notebook.kill(); notebook.wait()
    assert toy.json("data/beta/out.json") == {"value": 7}  # what the notebook had written was not thrown away
    assert toy.repro() == [] or toy.repro() == []  # DVC sees the other bytes and brings its own back


def test_a_failed_run_leaves_what_others_wrote(toy):
    "Only the stages that a run broke are brought back"
    toy.write("data/beta/out.json", '{"value": 8}')
    toy.edit("params.yaml", "alpha: {step: 2}", "alpha: {step: 2, fail: true}")
    toy.sh(PACKAGE, "run", "alpha", code=1)
    assert toy.json("data/alpha/out.json") == {"value": 3} and toy.json("data/beta/out.json") == {"value": 8}


def test_a_large_environment_is_no_hindrance(toy):
    for i in range(4): toy.env[f"LARGE_{i}"] = "x"*120_000
    assert toy.repro("--force", "--single-item", "first") == ["first"]


def test_what_a_stage_leaves_running_ends_with_it(toy):
    toy.edit_notebook("nbs/11_first.ipynb", "out = {'value': p.step}", "import subprocess\nout = {'value': p.step}\nsubprocess.Popen(['sleep', '60'])")
    assert "first" in toy.repro()
    assert gone(toy) is True and not locked(toy, "first")

@pytest.mark.parametrize("command", ["dvc", PACKAGE])
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_ending_a_run_leaves_no_process_and_no_lock(toy, command, how):
    toy.edit("params.yaml", "beta: {step: 3}", "beta: {step: 4, seconds: 30}")
    run = toy.start(*(["dvc", "repro"] if command == "dvc" else [PACKAGE, "run"]))
    until(lambda: (toy.root/"data/runs/.beta.tmp/out.json").exists())
    assert locked(toy, "beta")
    if how == signal.SIGINT: os.killpg(run.pid, how)  # Ctrl-C reaches the whole foreground group
    else: run.send_signal(how)
    out = run.communicate(timeout=20)[0]
    assert run.returncode != 0
    if how == signal.SIGINT: assert "Stage `beta` was interrupted" in out and (command == "dvc" or run.returncode == 130)
    assert gone(toy) is True
    assert not locked(toy, "beta")
    assert not list((toy.root/"data/runs").glob(".warm-*.sock"))
    until(lambda: reaped(toy))
    toy.edit("params.yaml", "beta: {step: 4, seconds: 30}", "beta: {step: 3}")
    toy.sh(PACKAGE, "restore")
    assert toy.repro() == [] and toy.json("data/beta/out.json")["value"] == 3


def test_a_killed_stage_is_told(toy):
    toy.edit("params.yaml", "beta: {step: 3}", "beta: {step: 4, seconds: 30}")
    run = toy.start("dvc", "repro")
    until(lambda: (toy.root/"data/runs/.beta.tmp/out.json").exists())
    pid = int(toy.text("data/runs/.beta.lock").split()[1])
    os.kill(pid, signal.SIGKILL)
    out = run.communicate(timeout=20)[0]
    assert run.returncode != 0 and "ended from outside" in out and "restore beta" in out
    assert gone(toy) is True


def test_the_command_starts_at_once(toy):
    "No heavy module is imported to show the help (the time itself is in the benchmark)"
    code = f"import sys; from {PACKAGE}.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass\nprint(sorted(m for m in sys.modules if m.split('.')[0] in ('pandas','sklearn','numpy','dvc','rich','pydantic','papermill')))"
    assert toy.sh(BIN/"python", "-c", code).splitlines()[-1] == "[]"


def test_commands_come_and_go_with_their_modules(toy, tmp_path):
    "Phases may have been left out; a command that needs no project says so"
    code, outside = f"from {PACKAGE}.cli import main; raise SystemExit(main())", toy.env | {"PYTHONPATH": str(toy.root)}
    def ask(*words): return subprocess.run([BIN/"python", "-c", code, *words], cwd=tmp_path, env=outside, capture_output=True, text=True)
    left = ask("--help").stdout
    assert " check " in left and not re.search(r"\b(serve|loop|monitor|leaderboard|new)\b", left)
    assert "No project here" in ask("check").stderr and "invalid choice: 'serve'" in ask("serve").stderr
    toy.write(f"{PACKAGE}/ship.py", "def add_commands(command):\n    command('serve', lambda root, args: print(root), 'serve').set_defaults(free=True)\n    command('edge', lambda root, args: print(root), 'edge')\n")
    assert ask("serve").stdout == "None\n" and "No project here" in ask("edge").stderr


# verdicts

WHO = {"by": "A. Person", "day": "2026-03-31", "why": "The pilot is cheap."}


@pytest.mark.parametrize("verb, found, frame, words", [
    ("features", {"verdict": "go"}, {}, None), ("features", {"verdict": "simpler rule"}, {}, None),
    ("features", {"verdict": "no-go"}, {"status": "draft"}, None), ("features", {"verdict": "collect more data"}, {"status": "draft"}, None),
    ("features", {"verdict": "no-go"}, {}, "`assess` says no-go"), ("features", {"verdict": "collect more data"}, {}, "`assess` says collect more data"),
    ("features", {"verdict": "no-go"}, {"override": WHO}, None), ("features", {"verdict": "collect more data"}, {"override": WHO}, None),
    *[("features", {"verdict": "no-go"}, {"override": WHO | {k: None}}, "frame.override: {of: assess, by: who, day: \"2026-03-31\", why:") for k in WHO],
    ("features", {"verdict": "no-go"}, {"override": WHO | {"of": "both"}}, None), ("features", {"verdict": "no-go"}, {"override": WHO | {"of": "gate"}}, "`assess` says no-go"),
    ("features", {"verdict": "no-go"}, {"override": None}, "frame.status: draft"),
    ("package", {"verdict": "pass", "open": []}, {}, None), ("package", {"verdict": "fail", "open": ["owner"]}, {"status": "draft"}, None),
    ("package", {"verdict": "fail", "open": []}, {}, "`evaluate` says fail"), ("package", {"verdict": "fail", "open": []}, {"override": WHO}, "`evaluate` says fail"),
    *[("package", {"verdict": "fail", "open": []}, {"override": WHO | {"of": of}}, None) for of in ("gate", "both")],
    *[("package", {"verdict": "fail", "open": []}, {"override": WHO | {"of": "gate", k: None}}, "frame.override: {of: gate, by: who, day: \"2026-03-31\", why:") for k in WHO],
    ("package", {"verdict": "fail", "open": ["owner"]}, {"override": WHO | {"of": "gate"}}, "The charter leaves open: `frame.owner`"),
    ("package", {"verdict": "pass", "open": ["owner", "aim"]}, {}, "The charter leaves open: `frame.owner`, `frame.aim`"),
    ("package", {"verdict": "pass", "open": ["owner"]}, {"override": WHO}, "data/frame/charter.html"),
    ("train", {"verdict": "no-go"}, {}, None)])
def test_a_verdict_stops_the_next_stage_at_launch_only(verb, found, frame, words, tmp_path):
    (tmp_path/"params.yaml").write_text(json.dumps({"frame": {"status": "launch"} | frame}))
    for _, path, *_ in run.VERDICTS.values(): (tmp_path/path).parent.mkdir(parents=True, exist_ok=True); (tmp_path/path).write_text(json.dumps(found | {"reasons": ["Because."]}))
    if words is None: return run.check_verdict(tmp_path, verb)
    with pytest.raises(run.Refused) as e: run.check_verdict(tmp_path, verb)
    assert words in str(e.value) and "`launch`" in str(e.value) and ("Because." in str(e.value) or found.get("open"))


def test_a_stage_that_a_verdict_refuses_ends_with_3_and_says_why(toy):
    "A stage of that name in the small house: before any cell, and no output is left half done"
    toy.edit("nbs/21_alpha.ipynb", "alpha", "features"); (toy.root/"nbs/21_alpha.ipynb").rename(toy.root/"nbs/21_features.ipynb")
    toy.write("params.yaml", toy.text("params.yaml").replace("alpha:", "features:") + "frame: {status: launch, override: null}\n")
    toy.write("dvc.yaml", toy.text("dvc.yaml").replace("alpha", "features")); toy.edit_notebook("nbs/22_beta.ipynb", f"{PACKAGE}.alpha", f"{PACKAGE}.features")
    toy.write("data/assess/decision.json", json.dumps({"verdict": "no-go", "reasons": ["Nothing beats the constant."]}))
    out = toy.sh(PACKAGE, "run", "features", code=3)
    assert "Stage `features` is refused. `assess` says no-go" in out and "Nothing beats the constant." in out and "frame.override" in out
    assert not (toy.root/"data/features/out.json").exists() and gone(toy) is True
    toy.edit("params.yaml", "override: null", 'override: {by: A. Person, day: "2026-03-31", why: The pilot is cheap.}')
    toy.sh(PACKAGE, "run", "features")
    assert (toy.root/"data/features/out.json").exists()
