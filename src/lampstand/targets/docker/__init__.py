"""The site as a Compose project on this machine's Docker Engine: Compose reconciles, Lampstand writes the project."""
