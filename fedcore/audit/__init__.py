"""What is wrong with a data set or a partition, found before any training."""
