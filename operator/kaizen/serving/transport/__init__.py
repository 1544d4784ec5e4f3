"""HTTP/1.1 and what belongs to it: reading strictly, refusing early, tokens, TLS, CORS.  Knows nothing of models."""
