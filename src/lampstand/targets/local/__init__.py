"""The site as plain processes on this machine: the default target, and the only one Lampstand reconciles itself."""
