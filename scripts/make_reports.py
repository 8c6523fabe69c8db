"""Regenerates the worked reports in reports/worked: each page and summary, without the large tables and the trace."""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

WORKED = ("single_node_tp", "pd_disaggregation", "deployment_modes")
REPORTS = Path(__file__).parents[1] / "reports" / "worked"


def main() -> int:
    for name in WORKED:
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / name
            subprocess.run([sys.executable, "-m", "simulator", "run", name, "--out", str(out), "--quiet"], check=True)
            target = REPORTS / name
            shutil.rmtree(target, ignore_errors=True)
            target.mkdir(parents=True)
            for file in ("index.html", "summary.json"):
                shutil.copy(out / file, target / file)
        print(f"{target}/index.html")
    return 0


if __name__ == "__main__":
    sys.exit(main())
