"""Regenerates the worked reports in reports/worked: pages, summaries, launch folders; no large tables, no traces."""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

WORKED = {
    "single_node_tp": "run",
    "pd_disaggregation": "run",
    "deployment_modes": "run",
    "multi_pd_masters": "run",
    "serving_faults": "run",
    "plan_llama70b_chat": "plan",
}
REPORTS = Path(__file__).parents[1] / "reports" / "worked"


def main() -> int:
    for name, command in WORKED.items():
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / name
            subprocess.run([sys.executable, "-m", "simulator", command, name, "--out", str(out), "--quiet"], check=True)
            target = REPORTS / name
            shutil.rmtree(target, ignore_errors=True)
            target.mkdir(parents=True)
            for file in ("index.html", "summary.json"):
                shutil.copy(out / file, target / file)
            if (out / "launch").is_dir():
                shutil.copytree(out / "launch", target / "launch")
        print(f"{target}/index.html")
    return 0


if __name__ == "__main__":
    sys.exit(main())
