"""What privacy costs in quality: the same run at several epsilons, over seeds."""
