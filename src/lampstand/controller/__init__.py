"""The loop that keeps a site serving: observe, diagnose, recover, report one human sentence a cycle."""
