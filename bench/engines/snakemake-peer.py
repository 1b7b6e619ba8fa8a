"""Snakemake runs the graph: a rule a kind of step, and a file for what each step leaves."""

import os
import subprocess
import sys
import tempfile

from peer import serve

SNAKEFILE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "Snakefile")


def run(chains):
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "snakemake", "--snakefile", SNAKEFILE, "--directory", folder]
        options = ["--cores", "all", "--quiet", "all", "--config", f"chains={chains}"]
        environment = {**os.environ, "XDG_CACHE_HOME": os.path.join(folder, ".snakemake")}
        subprocess.run([*command, *options], check=True, env=environment)
        return sum(len(files) for path, _, files in os.walk(folder) if ".snakemake" not in path)


serve(run)
