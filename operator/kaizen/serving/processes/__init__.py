"""The processes of a server: one, or a parent with workers; how they start, speak with each other, and end."""
