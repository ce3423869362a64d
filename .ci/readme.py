"""Run the README's blocks that are marked with `<!-- run -->`, in order, in an empty directory."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BLOCK = re.compile(r"<!-- run -->\n```(sh|python)\n(.*?)```", re.DOTALL)


def main() -> int:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    environment = {**os.environ, "PATH": f"{ROOT / '.venv' / 'bin'}:{os.environ['PATH']}"}
    with tempfile.TemporaryDirectory() as folder:
        blocks = [("sh", "headway quickstart"), *BLOCK.findall(text)]
        for language, code in blocks:
            sys.stdout.write(f"--- {language}\n{code}\n")
            sys.stdout.flush()
            command = ["bash", "-euo", "pipefail", "-c", code]
            if language == "python":
                command = ["python", "-c", code]
            done = subprocess.run(
                command, cwd=folder, env=environment, check=False, stdout=subprocess.PIPE, text=True
            )
            sys.stdout.write(done.stdout + "\n")
            if done.returncode:
                sys.stdout.write(f"the block ended with {done.returncode}\n")
                return 1
            if code == "headway quickstart":
                found = re.search(r"^exact match: (\d+\.\d+) %$", done.stdout, re.MULTILINE)
                if found is None or float(found[1]) < 99.5:
                    sys.stdout.write("the quickstart's exact match is below 99.5 %\n")
                    return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
