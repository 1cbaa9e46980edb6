"""For those who have cookiecutter: Copier, in an environment that is thrown away, makes the project as it always does.

    cookiecutter <path or URL> --directory .cookiecutter

Questions and answers are those of copier.yml; no file of the template is here a second time.
"""
import json
import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

answers = json.loads({{ cookiecutter | jsonify | tojson }})
repository, project = Path(answers["_repo_dir"]).resolve(), Path.cwd()
while not (repository / "copier.yml").exists() and repository != repository.parent: repository = repository.parent
commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=repository, capture_output=True, text=True).stdout.strip() or "HEAD"
given = [f"-d{k}={v}" for k, v in answers.items() if not k.startswith("_") and v != ""]
remembered = answers["_template"] if "://" in answers["_template"] or answers["_template"].startswith("git@") else str(repository)

(project / ".made").unlink(missing_ok=True)
with tempfile.TemporaryDirectory() as folder:
    venv.create(folder, with_pip=True)
    bin = Path(folder) / ("Scripts" if os.name == "nt" else "bin")
    wanted = ["-m", "pip", "install", "-q", "--disable-pip-version-check", "-c", repository / "constraints.txt", "copier"]
    copied = ["-m", "copier", "copy", "--trust", "--defaults", "--overwrite", "--quiet", "--vcs-ref", commit, *given, f"-dtemplate={remembered}", repository, "."]
    for words in (wanted, copied):
        done = subprocess.run([bin / "python", *words], cwd=project)
        if done.returncode: sys.exit("The project could not be made; the lines above say why.")
print(f"\n{project.name} is made. What runs it:\n\n    cd {project.name} && make run\n")
