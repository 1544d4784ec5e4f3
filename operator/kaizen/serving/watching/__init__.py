"""What is kept of requests and answers: windows, captured rows, labels and metrics, and their way to the bucket."""
