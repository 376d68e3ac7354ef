"""nginx twice: the balancer for HTTP and the gateway for the database and Redis."""
