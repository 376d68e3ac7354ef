"""Redis: the cache, whose values may be lost, and the session store, whose values may not."""
