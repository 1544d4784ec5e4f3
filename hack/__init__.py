"""The ground: everything between an empty machine and an installed operator.

`make` calls this package with the system's Python; it uses the standard library only, because it runs before anything
else is installed.  docs/development.md describes the commands, docs/architecture.md the two worlds they run in.
"""
