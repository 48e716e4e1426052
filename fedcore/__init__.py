"""The science of federated learning: pure functions over frozen values, no orchestrator."""
