"""Drills: inject a fault under load, expect, deadline, heal; each ends in a verdict and a nonzero exit on breach."""
