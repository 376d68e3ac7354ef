"""Kubernetes: manifests from the Topology, server-side apply, a controller in the cluster. No operator and no CRD."""
