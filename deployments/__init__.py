"""How it runs: local stack, command line, deployments."""
