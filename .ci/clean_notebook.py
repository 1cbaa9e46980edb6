"""Git's clean filter for notebooks: what is staged carries no outputs and no counts; the file at hand keeps them.

Plain Python without dependencies, so that git works before `.venv` is there. It keeps what `nbdev_clean` keeps.
"""
import json
import sys

NOTEBOOK, CELL = {"kernelspec", "jekyll", "jupytext", "doc", "widgets"}, {"tags", "hide_input"}


def clean(text: str) -> str:
    "Strip outputs, counts and stray metadata; what is no notebook (a file in mid-merge) stays as it is"
    try: nb = json.loads(text)
    except ValueError: return text
    if not isinstance(nb, dict) or "cells" not in nb: return text
    for cell in nb["cells"]:
        cell["metadata"] = {k: v for k, v in cell.get("metadata", {}).items() if k in CELL}
        if cell["cell_type"] == "code": cell |= {"outputs": [], "execution_count": None}
        if isinstance(cell.get("source"), str): cell["source"] = cell["source"].splitlines(True)
    nb["metadata"] = {k: v for k, v in nb.get("metadata", {}).items() if k in NOTEBOOK}
    if "name" in nb["metadata"].get("kernelspec", {}): nb["metadata"]["kernelspec"]["display_name"] = nb["metadata"]["kernelspec"]["name"]
    return json.dumps(nb, sort_keys=True, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    for stream in (sys.stdin, sys.stdout): stream.reconfigure(encoding="utf-8", newline="\n")
    sys.stdout.write(clean(sys.stdin.read()))
