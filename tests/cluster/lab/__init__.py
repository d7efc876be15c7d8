"""What the cluster tests stand on: hosts, processes on them, faults, load, and what proves it right."""
