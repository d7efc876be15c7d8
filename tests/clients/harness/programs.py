"""Runs the command-line clients of the virtual environment against a server.

The environment of a program holds nothing of the user's: its home is a temporary directory, its
credentials are the harness'. A program that fails shows what it printed.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from .server import ACCESS_KEY, SECRET_KEY


class Programs:
    """The clients, with credentials for one endpoint."""

    def __init__(self, endpoint, home, credentials=(ACCESS_KEY, SECRET_KEY)):
        self.endpoint = endpoint
        self.home = Path(home)
        self.home.mkdir(parents=True, exist_ok=True)
        folder = Path(sys.executable).parent
        self.environment = {
            "PATH": f"{folder}:{os.environ.get('PATH', '')}",
            "HOME": str(self.home),
            "LC_ALL": "C.UTF-8",
            "AWS_ACCESS_KEY_ID": credentials[0],
            "AWS_SECRET_ACCESS_KEY": credentials[1],
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_PAGER": "",
            "RCLONE_CONFIG": str(self.home / "rclone.conf"),
            "RCLONE_CONFIG_DRY_TYPE": "s3",
            "RCLONE_CONFIG_DRY_PROVIDER": "Other",
            "RCLONE_CONFIG_DRY_ENV_AUTH": "true",
            "RCLONE_CONFIG_DRY_REGION": "us-east-1",
            "RCLONE_CONFIG_DRY_ENDPOINT": endpoint,
        }
        (self.home / "rclone.conf").touch()

    def run(self, *command, seconds=600, check=True):
        """Runs a program to its end and returns the completed process."""
        command = [str(word) for word in command]
        path = shutil.which(command[0], path=self.environment["PATH"])
        assert path, f"{command[0]} is not installed"
        done = subprocess.run(
            [path, *command[1:]], env=self.environment, cwd=self.home, timeout=seconds,
            capture_output=True, text=True, errors="replace",
        )
        if check:
            said = f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
            assert done.returncode == 0, f"{' '.join(command)} gave {done.returncode}:\n{said}"
        return done

    def aws(self, *arguments, **options):
        """The aws command line."""
        return self.run("aws", "--endpoint-url", self.endpoint, *arguments, **options)

    def rclone(self, *arguments, **options):
        """rclone; the remote is `dry:`."""
        return self.run("rclone", *arguments, **options)

    def s3cmd(self, *arguments, **options):
        """s3cmd, path-style and without TLS."""
        host = self.endpoint.partition("//")[2]
        return self.run(
            "s3cmd", "--no-ssl", f"--host={host}", f"--host-bucket={host}", "--region=us-east-1",
            f"--access_key={ACCESS_KEY}", f"--secret_key={SECRET_KEY}", "--no-progress",
            *arguments, **options,
        )

    def s5cmd(self, *arguments, **options):
        """s5cmd with its default parallelism."""
        return self.run("s5cmd", "--endpoint-url", self.endpoint, *arguments, **options)
