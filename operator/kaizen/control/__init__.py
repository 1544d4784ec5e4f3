"""The loop: keys from the watches, reconciles from the queue, writes to the cluster."""
