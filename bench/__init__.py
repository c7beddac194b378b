"""What the agent costs and what it catches, measured on this machine, beside targets and the best known peers."""
