"""The web tier: Apache with the application behind it, its workers and its scheduled jobs."""
