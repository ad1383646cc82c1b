"""What this machine's GPUs and the machine itself are doing."""
