"""The edges: Varnish in front of the balancers. Rules are a pure model; VCL is one of its forms."""
