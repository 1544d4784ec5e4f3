"""The best of many tries: trials, their study and workers, Auto and stacking."""
