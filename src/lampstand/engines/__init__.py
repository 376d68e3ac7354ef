"""The engines on this machine: what is needed, what is there, how to install what is missing."""
