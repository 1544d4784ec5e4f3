"""The bucket: the truth of the registry.  The only package that imports boto3; synchronous, so callers run it in threads."""
